/**
 * Refuses passwords that are guessed first: the common ones, with the decorations that people add,
 * runs of the alphabet or the keyboard, and repetitions.
 */
import { SlipwayError } from "../core/error.ts";

/** What common passwords of ten and more characters are made of. */
const WORDS = new Set(
  `access account admin administrator adobe alexander amanda america andrea angel anthony apple arsenal asdf ashley august
austin autumn babygirl badboy bailey banana barcelona baseball basketball batman beautiful because bitcoin blink blessed
blessing butterfly cameron changeit changeme changethis charlie chelsea cheese chicken chocolate christian claude cloud
coffee company computer cookie corvette courtney cowboys cracker daniel database december default demo destiny diamond
docker donald dragon eclipse elephant elizabeth enterprise everything expelled facebook february ferrari flower football
forever forgot franklin freedom friday friend friends fuckyou gandalf gateway george ginger github gitlab google guest
guitar hacker hannah happy harley hello helloworld hockey hunter iceman iloveu iloveyou independent internet jackson
january jasmine jennifer jessica jesus jordan jordan23 joshua july june justin killer kitty letmein linkedin liverpool
localhost login lovely loveme london madison maggie manager marina master matrix matthew melissa mercedes merlin metallica
michael michelle microsoft minecraft mobile monday money monkey monster mother mustang mypass mypassword myspace naruto
nascar natasha nicole ninja nothing november october office open openai orange paradise pass passcode passphrase passwd
password passwort patrick peanut pepper phoenix player please pokemon postgres power princess private purple qwerty
rainbow raiders ranger redsox removed robert rockyou root samantha samsung saturday scooter secret secure security
september server service shadow silver slayer slipway snoopy soccer spiderman spring starwars steelers sterling student
summer sunday sunshine super superman superuser support system taylor teacher temp temporary tennis test testing thomas
thunder tigger toor trustno thursday tuesday twitter unknown user victoria wednesday welcome whatever william windows
winner winter wizard yamaha yankees`.split(/\s+/),
);
const RUNS = [
  "abcdefghijklmnopqrstuvwxyz",
  "01234567890123456789",
  "1234567891011121314151617181920",
  "qwertyuiopasdfghjklzxcvbnm",
  "qwertzuiopasdfghjklyxcvbnm",
  "azertyuiopqsdfghjklmwxcvbn",
  "qazwsxedcrfvtgbyhnujmikolp",
  "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
  "1q2w3e4r5t6y7u8i9o0p",
  "q1w2e3r4t5y6u7i8o9p0",
  "a1b2c3d4e5f6g7h8i9j0",
  "1a2b3c4d5e6f7g8h9i0j",
  "zaq12wsxcde34rfvbgt56yhnmju78ik",
];
/** Fewer different characters than this are a pattern. */
const DIFFERENT = 4;

const LEET: Readonly<Record<string, string>> = { "@": "a", "4": "a", "0": "o", "3": "e", $: "s", "5": "s", "7": "t" };
const plain = (text: string): string => text.replaceAll(/[@403$57]/g, (char) => LEET[char] ?? char);
const reversed = (text: string): string => [...text].toReversed().join("");

/** @throws SlipwayError `invalid_request`, with the reason at the field `path`. */
export function assertGoodPassword(password: string, email: string, path: string): void {
  const reason = findWeakness(password, email);
  if (reason === null) return;
  const errors = [{ path, message: `${reason}; use several words, or let a password manager make one` }];
  throw new SlipwayError("invalid_request", "The password would be guessed: see errors.", { errors });
}

/** Null when the password is not among those that are guessed first. */
export function findWeakness(password: string, email: string): string | null {
  const text = password.normalize("NFKC").toLowerCase();
  if (new Set(text).size < DIFFERENT) return `has fewer than ${DIFFERENT} different characters`;
  const bare = text.replaceAll(/[^\p{L}\p{N}]/gu, "");
  if (/^(.{1,8}?)\1+$/u.test(text) || /^(.{1,8}?)\1+$/u.test(bare)) return "repeats itself";
  if (RUNS.some((run) => isRun(bare, run))) return "is a run of the alphabet or the keyboard";
  const [name = ""] = email.toLowerCase().split("@", 1);
  const own = name.replaceAll(/[^\p{L}\p{N}]/gu, "");
  if (own.length >= 4 && bare.replace(own, "").length < 5) return "is the name in the e-mail address";
  return isCommon(text) ? "is one of the most common passwords" : null;
}

/** One run, in either direction, from anywhere, with a few digits around it. */
function isRun(text: string, run: string): boolean {
  const core = text.replace(/^\d{1,3}(?=\D{7})|(?<=\D{7})\d{1,4}$/g, "");
  return [text, core].some((one) => one.length >= 6 && (run.includes(one) || reversed(run).includes(one)));
}

/** One or two common words, as they are or disguised, with digits and signs around them. */
function isCommon(text: string): boolean {
  const stripped = text.replaceAll(/^[^\p{L}@$]+|[^\p{L}@$]+$/gu, "");
  const variants = [text, stripped, plain(stripped), plain(text), plain(stripped).replaceAll("1", "i")];
  variants.push(plain(stripped).replaceAll(/[1!]/g, "l"), plain(stripped).replaceAll("!", "i"));
  return variants.some((one) => {
    const letters = one.replaceAll(/[^\p{L}]/gu, "");
    // Without the words at most six characters remain, too few for a password.
    return text.length - letters.length <= 6 && isOneOrTwoWords(letters);
  });
}

function isOneOrTwoWords(letters: string): boolean {
  if (WORDS.has(letters) || WORDS.has(letters.replace(/s$/, ""))) return true;
  for (let at = 2; at < letters.length - 1; at++) {
    const [first, second] = [letters.slice(0, at), letters.slice(at)];
    if (WORDS.has(first) && (WORDS.has(second) || FILLERS.has(second))) return true;
    if (FILLERS.has(first) && WORDS.has(second)) return true;
  }
  return false;
}

const FILLERS = new Set([
  "my",
  "the",
  "me",
  "is",
  "one",
  "the1",
  "new",
  "your",
  "our",
  "abc",
  "xyz",
  "qwe",
  "asd",
  "you",
]);
