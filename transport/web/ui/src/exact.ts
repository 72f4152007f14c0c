// Exact JSON. JSON.parse changes numbers beyond 2^53, the order of keys and doubled keys, so no payload passes through it.

/** Raw is the text of a value as the server sent it. */
export class Raw {
  constructor(readonly text: string) {}
}

/** A value of an answer. A number that a double cannot hold stays a text. */
export type Value = null | boolean | number | string | Raw | Value[] | { [key: string]: Value };

/** Node is a value for display: its place in the text, and the places of its children. */
export interface Node {
  kind: "object" | "array" | "string" | "number" | "word";
  from: number;
  to: number;
  /** Key of a member of an object, as written, with its quotes. */
  key?: string;
  children?: Node[];
}

const maxDepth = 1000;

class Reader {
  at = 0;
  constructor(readonly text: string) {}

  fail(): never {
    throw new SyntaxError(`JSON: must be valid, got ${JSON.stringify(this.text.slice(this.at, this.at + 16))} at ${this.at}`);
  }

  skip() {
    for (;;) {
      const c = this.text.charCodeAt(this.at);
      if (c !== 32 && c !== 10 && c !== 13 && c !== 9) return;
      this.at++;
    }
  }

  take(c: string): boolean {
    this.skip();
    if (this.text[this.at] !== c) return false;
    this.at++;
    return true;
  }

  need(c: string) {
    if (!this.take(c)) this.fail();
  }

  /** readScalar moves behind a string, a number or a word. */
  readScalar(): Node {
    this.skip();
    const from = this.at;
    const pattern = this.text[from] === '"' ? /"(?:[^"\\]|\\[^])*"/y : /-?\d[\d.eE+-]*|true|false|null/y;
    pattern.lastIndex = from;
    const found = pattern.exec(this.text);
    if (!found) this.fail();
    this.at = pattern.lastIndex;
    const c = found[0][0]!;
    return { kind: c === '"' ? "string" : c === "-" || (c >= "0" && c <= "9") ? "number" : "word", from, to: this.at };
  }

  readNode(depth = 0): Node {
    if (depth > maxDepth) this.fail();
    this.skip();
    const from = this.at;
    const open = this.text[from];
    if (open !== "{" && open !== "[") return this.readScalar();
    this.at++;
    const object = open === "{";
    const children: Node[] = [];
    if (!this.take(object ? "}" : "]")) {
      do {
        let key: string | undefined;
        if (object) {
          const name = this.readScalar();
          if (name.kind !== "string") this.fail();
          key = this.text.slice(name.from, name.to);
          this.need(":");
        }
        const child = this.readNode(depth + 1);
        child.key = key;
        children.push(child);
      } while (this.take(","));
      this.need(object ? "}" : "]");
    }
    return { kind: object ? "object" : "array", from, to: this.at, children };
  }
}

/** readTree returns the places of all values in text. */
export function readTree(text: string): Node {
  const reader = new Reader(text);
  const node = reader.readNode();
  reader.skip();
  if (reader.at !== text.length) reader.fail();
  return node;
}

/** parse returns the value of text. The members named by raw stay texts at every depth. */
export function parse(text: string, raw: readonly string[] = []): Value {
  const build = (node: Node): Value => {
    const source = () => text.slice(node.from, node.to);
    switch (node.kind) {
      case "object": {
        const object: { [key: string]: Value } = Object.create(null);
        for (const child of node.children!) {
          const key: string = JSON.parse(child.key!);
          object[key] = raw.includes(key) ? new Raw(text.slice(child.from, child.to)) : build(child);
        }
        return object;
      }
      case "array":
        return node.children!.map(build);
      case "number": {
        const number = Number(source());
        return Number.isInteger(number) && !Number.isSafeInteger(number) ? source() : number;
      }
      default:
        return JSON.parse(source());
    }
  };
  return build(readTree(text));
}
