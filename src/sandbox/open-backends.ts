import { backendOpener, type OpenBackend } from "../backends/index.ts";
import type { Parts } from "./parts.ts";

/** How the object opens its backends, and what those in the object itself may have of it. */
export function openerOf(ctx: DurableObjectState, signingSecret: string, parts: () => Parts): OpenBackend {
  return backendOpener(signingSecret, {
    container: ctx.container,
    storage: ctx.storage,
    keepAwake: (work) => ctx.waitUntil(work),
    ended: () => ctx.waitUntil(parts().containerWatch.check()),
    socketOf: (attachmentId) => parts().attachments.socketInside(attachmentId),
  });
}
