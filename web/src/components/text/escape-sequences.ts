/** Of terminals: colours, the cursor, titles of windows. */
const SEQUENCE = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|.)/g;

export const removeSequences = (text: string): string => text.replaceAll(SEQUENCE, "");
