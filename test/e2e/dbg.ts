import { Attached } from "./attached.ts";
import { Instance, sleep } from "./instance.ts";
const instance = await Instance.start("embedded");
const sandboxId = await instance.create({ timeout: 900 });
for (let i = 0; i < 2; i++) {
  const { process_id } = await instance.call<{ process_id: string }>("POST", `/sandboxes/${sandboxId}/exec`, {
    command: ["sleep", "0.5"],
  });
  const a = await Attached.open(instance, `/sandboxes/${sandboxId}/processes/${process_id}/attach`);
  const t = Date.now();
  while (!a.closed && Date.now() - t < 35000) await sleep(10);
  console.log(a.status !== undefined, a.closed, a.socket.readyState, Date.now() - t);
}
await instance.remove();
