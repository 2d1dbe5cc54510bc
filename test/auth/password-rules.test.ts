import { expect, it } from "vitest";
import { findWeakness } from "../../src/auth/password-rules.ts";

it.each([
  "password123",
  "Password1!",
  "P@ssw0rd2024",
  "passw0rd!!",
  "1234567890",
  "0987654321",
  "12345678910",
  "qwertyuiop",
  "qwerty12345",
  "Qwertyuiop1",
  "asdfghjkl1",
  "1q2w3e4r5t",
  "1qaz2wsx3edc",
  "q1w2e3r4t5y6",
  "zaq12wsxcde3",
  "aaaaaaaaaa",
  "1111111111",
  "abababababab",
  "abcabcabcabc",
  "iloveyou123",
  "letmein2024",
  "welcome2024!",
  "Welcome123",
  "administrator",
  "admin123456",
  "adminadmin",
  "changeme123",
  "changemeplease",
  "mypassword1",
  "football123",
  "princess123",
  "sunshine2023",
  "Summer2024!",
  "trustno1trustno1",
  "superman123",
  "slipway2026",
  "liverpool1!",
  "monkeymonkey",
  "passwordpassword",
  "abcdefghij",
])("[H7] %s is refused: it is guessed first", (password) => {
  expect(findWeakness(password, "ann@example.org")).not.toBeNull();
});

it("[H7] the name in the e-mail is no password", () => {
  expect(findWeakness("annika.berg1", "annika.berg@example.org")).not.toBeNull();
  expect(findWeakness("AnnikaBerg2024", "annika.berg@example.org")).not.toBeNull();
});

it.each([
  "correct horse battery staple",
  "seven green lanterns",
  "Tr0ub4dor&3xyz",
  "kV9#pLq2!xZ7",
  "xkdqpwmzla",
  "my dog eats 12 monkeys",
  "annika likes cold tea",
  "8c1f2e7ab94d",
  "пароль для сервера",
])("[H7] %s is accepted", (password) => {
  expect(findWeakness(password, "annika@example.org")).toBeNull();
});
