// JSON as it was sent: exact numbers, the order of keys, doubled keys, escapes.

import { useSignal } from "@preact/signals";
import { type Node, type Raw, readTree } from "./exact";
import { copy } from "./parts";
import { bytes } from "./words";

/** Above this length a value is closed at first; the members of a part, and the letters of a text, that show at once. */
const large = 256 << 10;
const members = 100;
const letters = 2_000;

/** marks are letters that change the direction or the look of their neighbours. They show as escapes, which mean the same in JSON. */
const marks = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]/gu;
const visible = (text: string) => text.replace(marks, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

function Text({ text, kind }: { text: string; kind: string }) {
  const all = useSignal(false);
  const cut = text.length > letters && !all.value;
  return (
    <>
      <span class={kind}>{visible(cut ? text.slice(0, letters) : text)}</span>
      {cut && <button type="button" class="inline" onClick={() => (all.value = true)}>… {text.length - letters} more letters</button>}
    </>
  );
}

function Tree({ node, text, depth, last }: { node: Node; text: string; depth: number; last: boolean }) {
  const open = useSignal(depth < 1 || (node.to - node.from < 4_000 && depth < 6));
  const shown = useSignal(members);
  const key = node.key && <><span class="k">{visible(node.key)}</span>: </>;
  const comma = last ? "" : ",";
  if (!node.children) return <div>{key}<Text text={text.slice(node.from, node.to)} kind={node.kind} />{comma}</div>;

  const [from, to] = node.kind === "object" ? "{}" : "[]";
  const n = node.children.length;
  if (n === 0) return <div>{key}{from}{to}{comma}</div>;
  if (!open.value)
    return (
      <div>
        {key}{from}<button type="button" class="inline" aria-expanded="false" onClick={() => (open.value = true)}>… {n} {node.kind === "object" ? "members" : "items"}</button>{to}{comma}
      </div>
    );
  return (
    <div>
      {key}<button type="button" class="fold" aria-expanded="true" aria-label={`Close ${node.key ?? "the value"}`} onClick={() => (open.value = false)}>{from}</button>
      <div class="level">
        {node.children.slice(0, shown.value).map((child, index) => <Tree key={index} node={child} text={text} depth={depth + 1} last={index === n - 1} />)}
        {n > shown.value && <button type="button" class="inline" onClick={() => (shown.value += members)}>… {n - shown.value} more</button>}
      </div>
      {to}{comma}
    </div>
  );
}

/** JSONView shows a value. Its copy is the text of the server, byte by byte. */
export function JSONView({ raw, label }: { raw: Raw; label: string }) {
  const open = useSignal(raw.text.length <= large);
  let tree: Node | null = null;
  if (open.value)
    try {
      tree = readTree(raw.text);
    } catch {
      // Shown as plain text then.
    }
  return (
    <div class="json">
      <div class="tools">
        <span class="dim">{bytes(raw.text)}, exact</span>
        <button type="button" class="small" aria-label={`Copy ${label}`} onClick={() => copy(raw.text, label)}>Copy</button>
      </div>
      {!open.value ? <button type="button" onClick={() => (open.value = true)}>Show {bytes(raw.text)}</button> : (
        <div class="code" role="region" aria-label={label} tabIndex={0}>{tree ? <Tree node={tree} text={raw.text} depth={0} last /> : <Text text={raw.text} kind="string" />}</div>
      )}
    </div>
  );
}

/** errorText returns the line of an error that a reader wants first. The whole value is beside it. */
export function errorText(raw: Raw | undefined): string {
  if (!raw) return "";
  try {
    const value = JSON.parse(raw.text) as unknown;
    if (typeof value === "string") return value;
    if (value && typeof value === "object")
      for (const key of ["message", "msg", "error", "detail", "reason"]) {
        const member = (value as Record<string, unknown>)[key];
        if (typeof member === "string" && member) return member;
      }
  } catch {
    // Shown as it is.
  }
  return raw.text;
}
