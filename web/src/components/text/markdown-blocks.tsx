/**
 * Markdown as React elements. The text is hostile: no HTML is made from it, links open only http,
 * https and mailto, and images are shown as links, so that nothing is fetched from elsewhere.
 */
import { Lexer, lexer, type Token, type Tokens } from "marked";
import { memo, type ReactNode } from "react";

export interface MarkdownProps {
  readonly text: string;
  /** One line: no blocks are made of it. */
  readonly isInline?: boolean;
}

/** Longer texts are shown as they are: parsing them would block the page. */
const LIMIT = 200_000;

export const MarkdownBlocks = memo(function MarkdownBlocks({ text, isInline = false }: MarkdownProps) {
  if (text.length > LIMIT) return isInline ? text : <pre className="out">{text}</pre>;
  if (isInline) return renderInline(Lexer.lexInline(text, { gfm: true }));
  return (
    <>
      {lexer(text, { gfm: true }).map((token, i) => (
        <Block key={`${i} ${token.type}`} raw={token.raw} token={token} />
      ))}
    </>
  );
});

/** Only a block whose source changed renders again: while a text streams, that is the last one. */
const Block = memo(
  ({ token }: { raw: string; token: Token }) => renderBlock(token),
  (before, after) => before.raw === after.raw,
);
Block.displayName = "Block";

function renderBlock(token: Token): ReactNode {
  switch (token.type) {
    case "heading": {
      const { depth, tokens } = token as Tokens.Heading;
      return depth <= 2 ? <h2>{renderInline(tokens)}</h2> : <h3>{renderInline(tokens)}</h3>;
    }
    case "paragraph":
      return <p>{renderInline((token as Tokens.Paragraph).tokens)}</p>;
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return tokens === undefined ? text : renderInline(tokens);
    }
    case "code":
      return (
        <pre className="out" tabIndex={0}>
          {(token as Tokens.Code).text}
        </pre>
      );
    case "blockquote":
      return <blockquote>{renderBlocks((token as Tokens.Blockquote).tokens)}</blockquote>;
    case "list":
      return renderList(token as Tokens.List);
    case "table":
      return renderTable(token as Tokens.Table);
    case "hr":
      return <hr />;
    case "space":
    case "def":
      return null;
    default:
      return <p>{token.raw}</p>;
  }
}

function renderBlocks(tokens: readonly Token[]): ReactNode {
  return tokens.map((token, i) => <Block key={`${i} ${token.type}`} raw={token.raw} token={token} />);
}

function renderList({ ordered, start, items }: Tokens.List): ReactNode {
  const children = items.map((item, i) => (
    <li key={`${i} ${item.raw.length}`}>
      {item.task && <span aria-label={item.checked ? "done" : "open"}>{item.checked ? "☑ " : "☐ "}</span>}
      {renderBlocks(item.tokens)}
    </li>
  ));
  return ordered ? <ol start={start === "" ? 1 : start}>{children}</ol> : <ul>{children}</ul>;
}

function renderTable({ header, rows }: Tokens.Table): ReactNode {
  return (
    <div className="tablewrap" tabIndex={0} role="region" aria-label="Table, scrolls sideways">
      <table className="table">
        <thead>
          <tr>
            {header.map((cell, i) => (
              <th key={`${i} ${cell.text}`} scope="col">
                {renderInline(cell.tokens)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row, r) => (
            <tr key={`${r} ${row.length}`}>
              {row.map((cell, i) => (
                <td key={`${i} ${cell.text}`}>{renderInline(cell.tokens)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function renderInline(tokens: readonly Token[] | undefined): ReactNode {
  return (tokens ?? []).map((token, i) => {
    const key = `${i} ${token.type}`;
    const { tokens: inner } = token as { tokens?: Token[] };
    switch (token.type) {
      case "strong":
        return <strong key={key}>{renderInline(inner)}</strong>;
      case "em":
        return <em key={key}>{renderInline(inner)}</em>;
      case "del":
        return <del key={key}>{renderInline(inner)}</del>;
      case "codespan":
        return <code key={key}>{(token as Tokens.Codespan).text}</code>;
      case "br":
        return <br key={key} />;
      case "link":
      case "image": {
        const { href, text } = token as Tokens.Link;
        return <SafeLink key={key} href={href} text={text === "" ? href : text} />;
      }
      case "escape":
        return (token as Tokens.Escape).text;
      case "text":
        return inner === undefined ? (
          decodeEntities((token as Tokens.Text).text)
        ) : (
          <span key={key}>{renderInline(inner)}</span>
        );
      default:
        return token.raw;
    }
  });
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&amp;": "&",
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&#39;": "'",
};

/** The lexer leaves the source; React escapes it again, so the five basic entities are decoded. */
function decodeEntities(text: string): string {
  return text.replaceAll(/&(?:amp|lt|gt|quot|#39);/g, (entity) => ENTITIES[entity] ?? entity);
}

/**
 * The host is named unless the text is that address itself, in the letters that the browser goes
 * to: a text cannot pretend another address, be it by letters that look alike, by a host in its
 * middle, or by turning the direction of what follows.
 */
function SafeLink({ href, text }: { href: string; text: string }) {
  const url = URL.canParse(href) ? new URL(href) : null;
  if (url === null || !["http:", "https:", "mailto:"].includes(url.protocol)) return <span>{text}</span>;
  const shown = url.protocol === "mailto:" ? url.pathname : url.host;
  return (
    <a className="link" href={url.href} target="_blank" rel="noopener noreferrer nofollow">
      <bdi>{text}</bdi>
      {!isAddress(text, shown) && <small className="muted"> ({shown})</small>}
    </a>
  );
}

/** Whether a text begins with this host, or is this address of mail. */
function isAddress(text: string, shown: string): boolean {
  const bare = text.replace(/^(?:https?:\/\/|mailto:)/, "");
  return bare === shown || (bare.startsWith(shown) && /^[/?#]/.test(bare.slice(shown.length)));
}
