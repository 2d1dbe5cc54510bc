const { test } = require("node:test");
const assert = require("node:assert");

void test("the native module answers", () => assert.equal(require("answer").answer(), 42));
