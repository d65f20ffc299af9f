// Markdown of a response as elements. Links and images are text with their address and a button that copies it.

import type { ComponentChildren } from "preact";
import { copyText } from "./clipboard";
import { VisibleText } from "../page/VisibleText";
import { type Block, type Inline, parseMarkdown } from "./markdown";

export function MarkdownView({ text }: { text: string }) {
  return <>{parseMarkdown(text).map(blockNode)}</>;
}

function blockNode(block: Block): ComponentChildren {
  switch (block.kind) {
    case "heading":
      // Not a heading of the page: readers of the page's outline would find the response's in it.
      return <p class={`md-heading md-${block.level}`}>{block.children.map(inlineNode)}</p>;
    case "paragraph":
      return <p>{block.children.map(inlineNode)}</p>;
    case "code":
      return (
        <figure class="md-code">
          {block.language || !block.isClosed ? (
            <figcaption>
              <VisibleText text={block.language} />
              {block.isClosed ? null : " (not closed)"}
            </figcaption>
          ) : null}
          <pre tabIndex={0}>
            <code>
              <VisibleText text={block.text} />
            </code>
          </pre>
        </figure>
      );
    case "quote":
      return <blockquote>{block.blocks.map(blockNode)}</blockquote>;
    case "list": {
      const items = block.items.map((item) => <li>{item.map(blockNode)}</li>);
      return block.start === null ? <ul>{items}</ul> : <ol start={block.start}>{items}</ol>;
    }
    case "table":
      return (
        <div class="scroll" role="region" tabIndex={0} aria-label="Table of the response">
          <table>
            <thead>
              <tr>
                {block.head.map((cell) => (
                  <th scope="col">{cell.map(inlineNode)}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {block.rows.map((row) => (
                <tr>
                  {row.map((cell) => (
                    <td>{cell.map(inlineNode)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    case "rule":
      return <hr />;
  }
}

function inlineNode(inline: Inline): ComponentChildren {
  switch (inline.kind) {
    case "text":
      return <VisibleText text={inline.text} />;
    case "code":
      return (
        <code>
          <VisibleText text={inline.text} />
        </code>
      );
    case "strong":
      return <strong>{inline.children.map(inlineNode)}</strong>;
    case "em":
      return <em>{inline.children.map(inlineNode)}</em>;
    case "del":
      return <s>{inline.children.map(inlineNode)}</s>;
    case "break":
      return <br />;
    case "link":
      return <InertLink address={inline.address}>{inline.children.map(inlineNode)}</InertLink>;
  }
}

function InertLink({ address, children }: { address: string; children: ComponentChildren }) {
  return (
    <span class="md-link">
      {children}{" "}
      <span class="md-address">
        (<VisibleText text={address} />)
      </span>{" "}
      <button type="button" class="plain" aria-label="Copy the address" title="Copy the address" onClick={() => copyText(address)}>
        ⧉
      </button>
    </span>
  );
}
