/**
 * Answers the questions of tasks with their first option, or with "Decide yourself.":
 * node answer-questions.mjs [--all] [--questions 1]
 *
 * --all watches the tasks of all people; the token then needs the role operator and the scope
 * operate. With --questions it ends after that many answers.
 */
import { parseArgs } from "node:util";
import { SlipwayClient, SlipwayProblem } from "slipway-client";

const { SLIPWAY_URL = "http://127.0.0.1:7080", SLIPWAY_TOKEN } = process.env;
const { values } = parseArgs({ options: { all: { type: "boolean" }, questions: { type: "string" } } });
const client = new SlipwayClient({ baseUrl: SLIPWAY_URL, token: SLIPWAY_TOKEN });
let left = Number(values.questions ?? Infinity);

const answered = new Set();
for await (const { id, title, question } of client.watchTasks({ all: values.all ?? false })) {
  if (question === null || answered.has(question.id + id)) continue;
  answered.add(question.id + id);
  const text = question.options?.[0] ?? "Decide yourself.";
  try {
    await client.answer(id, { questionId: question.id, text });
    console.log(`${title}: ${question.question} ${text}`);
    left -= 1;
  } catch (problem) {
    // Somebody else was faster (the first answer counts), or the question is not open any more.
    if (!(problem instanceof SlipwayProblem) || problem.status !== 409) throw problem;
  }
  if (left <= 0) break;
}
