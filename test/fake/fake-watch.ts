import { formatEvent } from "../../src/contract/events.ts";
import type { WatchEvent } from "../../src/contract/file.ts";
import { join, parentOf, plain, type FakeFiles } from "./fake-files.ts";
import { close } from "./fake-streams.ts";
import { until } from "./until.ts";

/** So often comes a comment when nothing else does: what is written tells that nobody reads any more. */
const SILENCE_MS = 200;

/** The event stream of a watch: until what it watches is gone, or `isOver`. */
export function watchOf(files: FakeFiles, path: string, recursive: boolean, isOver: () => boolean) {
  const { path: real } = files.at(path, true);
  const shown = plain(path);
  const queue: WatchEvent[] = [{ event: "ready", path: shown }];
  let isGone = false;
  const show = (at: string) => (at === real ? shown : join(shown, at.slice(join(real, "").length)));
  const isIn = (at: string) => at === real || (recursive ? at.startsWith(join(real, "")) : parentOf(at) === real);
  const push = (event: WatchEvent) => {
    queue.push(event);
    if (event.event === "remove" && event.path === shown) isGone = true;
  };
  const stop = files.listen(({ event, path: at, from }) => {
    const [isTo, isFrom] = [isIn(at!), from !== undefined && isIn(from)];
    if (event !== "rename") {
      if (isTo) push({ event, path: show(at!) });
    } else if (real === from || real.startsWith(join(from!, ""))) push({ event: "remove", path: shown });
    else if (isTo && isFrom) push({ event, path: show(at!), from: show(from!) });
    else if (isTo) push({ event: "create", path: show(at!) });
    else if (isFrom) push({ event: "remove", path: show(from!) });
  });
  let isLeft = false;
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      await until(() => queue.length > 0 || isGone || isOver() || isLeft, SILENCE_MS);
      if (isLeft) return;
      const text = queue.splice(0).map(({ event, ...data }) => formatEvent(event, data));
      const isLast = isGone || isOver();
      if (text.length > 0 || !isLast) controller.enqueue(new TextEncoder().encode(text.join("") || ":\n\n"));
      if (!isLast) return;
      stop();
      close(controller);
    },
    cancel() {
      isLeft = true;
      stop();
    },
  });
}
