/**
 * `slipway completion <shell>`: a script that asks this program, with the hidden command
 * `__complete`, for what may follow the words that are typed.
 */
import { Argument, type Command } from "commander";
import { openClient, print, type Io } from "../io.ts";
import { readContexts, LOCAL } from "./contexts.ts";
import { stripControls, truncate } from "../terminal/text.ts";

const SCRIPTS = {
  bash: `_slipway() {
  local IFS=$'\\n'
  COMPREPLY=($(compgen -W "$(slipway __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f1)" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _slipway slipway
`,
  zsh: `#compdef slipway
_slipway() {
  local -a lines
  lines=("\${(@f)$(slipway __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  lines=("\${(@)\${lines//:/\\\\:}/$'\\t'/:}")
  if (( \${#lines} )) && [[ -n "\${lines[1]}" ]]; then _describe slipway lines; else _files; fi
}
compdef _slipway slipway
`,
  fish: `complete -c slipway -e
complete -c slipway -a '(slipway __complete -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
`,
} as const;
type Shell = keyof typeof SCRIPTS;
const SHELLS = Object.keys(SCRIPTS) as Shell[];

/** Arguments that are a task, or a context. */
const TASK = "the task";
const NEWEST = 30;
const ANSWER_MS = 2_000;

interface Candidate {
  readonly word: string;
  readonly help: string;
}

export function completionCommand(program: Command, io: Io): void {
  program
    .command("completion")
    .description("Print the script that completes commands, options and tasks in your shell")
    .addArgument(new Argument("<shell>", "your shell").choices(SHELLS))
    .addHelpText(
      "after",
      `
bash: echo 'source <(slipway completion bash)' >> ~/.bashrc
zsh:  echo 'source <(slipway completion zsh)' >> ~/.zshrc   (after compinit)
fish: slipway completion fish > ~/.config/fish/completions/slipway.fish`,
    )
    .action((shell: Shell) => print(io, SCRIPTS[shell].trimEnd()));
  program
    .command("__complete", { hidden: true })
    .argument("[words...]")
    .action(async (words: string[]) => {
      for (const { word, help } of await complete(program, io, words))
        print(io, help === "" ? word : `${word}\t${help}`);
    });
}

/** @param words what is typed after the program's name; the last one is being typed. */
async function complete(program: Command, io: Io, words: readonly string[]): Promise<Candidate[]> {
  const typed = words.at(-1) ?? "";
  const { command, given, option } = follow(program, words.slice(0, -1));
  const found = option ?? (typed.startsWith("-") ? optionsOf(command) : await argumentsOf(command, given, io));
  return found.filter(({ word }) => word.startsWith(typed));
}

interface Place {
  readonly command: Command;
  /** Arguments that are complete. */
  readonly given: number;
  /** The values of the option that is being typed; null = none is. */
  readonly option: Candidate[] | null;
}

function follow(program: Command, words: readonly string[]): Place {
  let command = program;
  let given = 0;
  let option: Candidate[] | null = null;
  for (const word of words) {
    if (option !== null) {
      option = null;
      continue;
    }
    if (word.startsWith("-")) {
      const known = command.options.find(({ long, short }) => word === long || word === short);
      option = known !== undefined && (known.required || known.optional) ? toCandidates(known.argChoices ?? []) : null;
      continue;
    }
    const next: Command | undefined = given === 0 ? subcommand(command, word) : undefined;
    if (next === undefined) given += 1;
    else command = next;
  }
  return { command, given, option };
}

const subcommand = (command: Command, word: string): Command | undefined =>
  command.commands.find((one) => one.name() === word);

const toCandidates = (words: readonly string[]): Candidate[] => words.map((word) => ({ word, help: "" }));

const optionsOf = (command: Command): Candidate[] =>
  command.options
    .filter(({ hidden, long }) => !hidden && long !== undefined)
    .map(({ long, description }) => ({ word: long ?? "", help: description }))
    .concat({ word: "--help", help: "how it is used" });

async function argumentsOf(command: Command, given: number, io: Io): Promise<Candidate[]> {
  const argument = command.registeredArguments[given];
  const commands =
    given > 0
      ? []
      : command.commands
          .filter((one) => !one.name().startsWith("_"))
          .map((one) => ({ word: one.name(), help: one.description() }));
  if (argument === undefined) return commands;
  if (argument.argChoices !== undefined) return toCandidates(argument.argChoices);
  if (argument.description === TASK) return await tasks(io);
  if (argument.description.startsWith("a context"))
    return toCandidates([LOCAL, ...Object.keys(readContexts(io.env).servers)]);
  return commands;
}

/** The newest tasks; none when the server does not answer at once. */
async function tasks(io: Io): Promise<Candidate[]> {
  const late = new Promise<null>((done) => setTimeout(() => done(null), ANSWER_MS).unref());
  const page = await Promise.race([openClient(io, {}).tasks({ limit: NEWEST }), late]).catch(() => null);
  const found = (page?.items ?? []).map(({ id, state, title }) => ({
    word: id,
    help: `${state}  ${truncate(stripControls(title), 50)}`,
  }));
  return [{ word: "last", help: "the newest task" }, ...found];
}
