import { text } from "./signed-host.ts";
import type { WarmHost } from "./warm-host.ts";

/** Variables of a sandbox. */
export const ENV = {
  TOKEN: "a 'secret'",
  LANG: "C.UTF-8",
  PATH: "/opt/bin:/usr/bin:/bin",
  TERM: "dumb",
  HOSTNAME_: "x",
};

/** What tests ask of the sandboxes on a host, by their paths. */
export function warmCalls(host: () => WarmHost) {
  const call = (method: string, target: string) => host().signed.call(method, target);
  const status = async (box: string) => (await call("GET", box)).json;
  const run = async (box: string, script: string, rest: object = {}) => {
    const { output, returncode } = await host().signed.exec(box, ["sh", "-c", script], rest);
    return { stdout: text(output?.stdout), stderr: text(output?.stderr), returncode };
  };
  const mainOutput = async (box: string) => (await call("GET", `${box}/processes/main/stdout`)).body.toString();
  return { call, status, run, mainOutput };
}
