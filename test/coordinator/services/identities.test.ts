import { expect, it } from "vitest";
import { readIdentities, type IdentityDeps } from "../../../src/coordinator/services/worker/identities.ts";
import { commitIdentityKey } from "../../../src/core/values/git-identity.ts";

const SLIPWAY = { name: "Slipway", email: "agent@slipway.invalid" };
const ANN = { name: "Ann Lee", email: "ann@work.example.org" };
const BY_MAIL = { name: "ann", email: "ann@example.org" };

/** @param chosen what the person chose. */
const name = (chosen: object | null, deps: Partial<IdentityDeps> = {}) =>
  readIdentities(
    {
      emailOf: async (userId) => (userId === "user_ann" ? "ann@example.org" : null),
      store: {
        setting: async (key) =>
          key === commitIdentityKey("user_ann") && chosen !== null ? JSON.stringify(chosen) : null,
      },
      ...deps,
    },
    "user_ann",
  );

it("[W11] a person is co-author by the account, or as they chose to be named", async () => {
  expect(await name(null)).toEqual({ author: SLIPWAY, coAuthors: [BY_MAIL] });
  expect(await name({ ...ANN, as: "installation" })).toEqual({ author: SLIPWAY, coAuthors: [ANN] });
  expect(await name(null, { emailOf: async () => "root@localhost" })).toEqual({ author: SLIPWAY, coAuthors: [] });
});

it("[W11] a person is the author where the installation or they themselves say so", async () => {
  expect(await name(null, { gitAuthor: "person" })).toEqual({ author: BY_MAIL, coAuthors: [] });
  expect(await name({ ...ANN, as: "installation" }, { gitAuthor: "person" })).toEqual({ author: ANN, coAuthors: [] });
  expect(await name({ ...ANN, as: "author" })).toEqual({ author: ANN, coAuthors: [] });
  const gitAuthor = { name: "Robot", email: "ann@example.org" };
  expect(await name(null, { gitAuthor })).toEqual({ author: gitAuthor, coAuthors: [] });
});
