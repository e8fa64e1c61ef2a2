import { describe, expect, inject, it } from "vitest";
import { newId } from "../../src/contract/ids.ts";
import { errorOf, exec, readText, startSpec, text } from "../backends/under-test.ts";
import { RemoteBackend } from "./remote-backend.ts";

const workerUrl = inject("containerWorker");

describe.skipIf(workerUrl === undefined)("the output of a sandbox that has ended", () => {
  it("is kept until it is let go of, whatever becomes of the object", async () => {
    const sandboxId = newId("sandbox");
    const backend = new RemoteBackend(workerUrl!, sandboxId);
    await backend.start(startSpec("base", sandboxId));
    const { process_id, output } = await exec(backend, ["sh", "-c", "echo kept; exit 4"]);
    expect(text(output?.stdout)).toBe("kept\n");
    await backend.stop();
    await backend.endLife();
    expect(await readText(backend.output(process_id, "stdout", 0, true))).toBe("kept\n");
    await backend.forget();
    const gone = async () => errorOf(readText(backend.output(process_id, "stdout", 0, true)));
    expect(await gone()).toMatchObject({ code: "sandbox_ended" });
    await backend.endLife();
    expect(await gone()).toMatchObject({ code: "sandbox_ended" });
    expect(await errorOf(backend.process(process_id))).toMatchObject({ code: "sandbox_ended" });
  });
});
