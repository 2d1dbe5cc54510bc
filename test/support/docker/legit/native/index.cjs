module.exports = require("./build/Release/answer.node");
