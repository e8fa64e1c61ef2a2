import { spawn } from "node:child_process";

/**
 * Runs `node ARGS…` and ends it, with everything it started, when this process's stdin ends: its parent
 * is gone then, even if that was a `kill -9`. Expects to lead its process group.
 */
const child = spawn(process.execPath, process.argv.slice(2), { stdio: ["ignore", "inherit", "inherit"] });

const endGroup = () => process.kill(-process.pid, "SIGKILL");

process.stdin.resume();
process.stdin.on("end", endGroup);
process.stdin.on("error", endGroup);
process.on("SIGTERM", () => {
  child.kill("SIGTERM");
});
child.on("error", () => process.exit(1));
child.on("exit", (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
