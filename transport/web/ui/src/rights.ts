// The rights of the caller, for display alone: the server decides about each call.

import { signal } from "@preact/signals";
import type { Identity } from "./api";
import roles from "./roles.json";
import { route } from "./route";

/** identity is the caller; null before the first answer. */
export const identity = signal<Identity | null>(null);

export type Action =
  | "task.create" | "task.read" | "task.operate" | "task.payload" | "queue.read" | "queue.manage" | "queue.pause" | "ticker.read" | "ticker.run"
  | "ticker.manage" | "event.read" | "worker.read" | "system.read" | "access.manage" | "audit.read";

const matches = (pattern: string, name: string) => (pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name);

/** may reports whether the caller has the right in a queue; without a queue, in the namespace as a whole. */
export function may(action: Action, queue = ""): boolean {
  const namespace = route.value.namespace;
  return (identity.value?.grants ?? []).some((grant) => {
    const [, role, at, fence] = /^([^@]+)@([^/]+)(?:\/(.*))?$/.exec(grant) ?? [];
    const actions = roles.find((row) => row.role === role)?.actions ?? [];
    return actions.includes(action) && (at === "*" || at === namespace) && (!fence || (queue !== "" && matches(fence, queue)));
  });
}

/** fences lists the patterns of queues in which alone the caller has the right. */
export function fences(action: Action): string[] {
  if (may(action)) return [];
  const namespace = route.value.namespace;
  return (identity.value?.grants ?? []).flatMap((grant) => {
    const [, role, at, fence] = /^([^@]+)@([^/]+)(?:\/(.*))?$/.exec(grant) ?? [];
    const actions = roles.find((row) => row.role === role)?.actions ?? [];
    return fence && actions.includes(action) && (at === "*" || at === namespace) ? [fence] : [];
  });
}

/** need names the least role with the right, in words. */
export function need(action: Action): string {
  const human = roles.filter((row) => !["metrics", "producer", "worker"].includes(row.role));
  const role = human.find((row) => row.actions.includes(action))?.role ?? "system";
  return role === "system" ? "needs the role system" : `needs the role ${role} in ${route.value.namespace}`;
}
