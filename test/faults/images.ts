import { z } from "zod";
import type { Client } from "./client.ts";
import { create, newRequest, type CreateContext } from "./creates.ts";
import type { Violation } from "./findings.ts";
import { isEnded, type KnownSandbox, type Ledger, type SandboxDocument } from "./ledger.ts";
import type { OperationContext } from "./operations.ts";

const READ_AT_END = 6;
const READ_ATTEMPTS = 20;
const RETRY_MS = 500;

/** A snapshot that was acknowledged, and a file that was written just before it. */
export interface KnownImage {
  imageId: string;
  sandboxId: string;
  path: string;
  content: string;
}

const ImageSchema = z.object({ image_id: z.string(), status: z.string(), error: z.string().optional() });

/** Writes a file, and asks for a snapshot without waiting for it. Only what was acknowledged is expected. */
export async function snapshot(
  { client, ledger, findings, random }: OperationContext,
  sandbox: KnownSandbox,
): Promise<void> {
  const content = `kept-${random.int(0, 1e9)}`.repeat(random.int(1, 2000));
  const path = `/srv/kept-${random.int(0, 1e9)}`;
  const written = await client.send("PUT", `/sandboxes/${sandbox.sandboxId}/files?path=${path}`, { body: content });
  if (written.kind !== "ok") return;
  const headers = { prefer: "respond-async", "idempotency-key": `image-${random.int(0, 1e9)}` };
  const outcome = await client.send("POST", `/sandboxes/${sandbox.sandboxId}/snapshot`, { headers });
  if (outcome.kind === "refused" && outcome.code !== "sandbox_ended")
    findings.add("an operation is refused for a reason", `snapshot of ${sandbox.sandboxId}: ${outcome.code}`);
  if (outcome.kind !== "ok") return;
  const { image_id: imageId } = ImageSchema.parse(outcome.body);
  ledger.images.push({ imageId, sandboxId: sandbox.sandboxId, path, content });
}

/** Of the images what should not be so once all is well: each is ready, or has failed because its sandbox ended. */
export async function wrongImages(
  client: Client,
  ledger: Ledger,
  documents: ReadonlyMap<string, SandboxDocument>,
): Promise<Violation[]> {
  const answer = await client.send("GET", "/images?limit=1000");
  if (answer.kind !== "ok") return [{ rule: "the API answers once faults are over", what: "the images do not" }];
  const { data } = z.object({ data: z.array(ImageSchema) }).parse(answer.body);
  const found = new Map(data.map((image) => [image.image_id, image]));
  const wrong = data
    .filter(({ status }) => status === "pending")
    .map(({ image_id }): Violation => ({ rule: "a snapshot is made, or has failed", what: `${image_id} is pending` }));
  for (const { imageId, sandboxId } of ledger.images) {
    const image = found.get(imageId);
    if (!image) wrong.push({ rule: "an acknowledged snapshot is there", what: imageId });
    const document = documents.get(sandboxId);
    if (image?.status === "failed" && document && !isEnded(document))
      wrong.push({ rule: "a snapshot fails for a reason", what: `${imageId} of ${sandboxId}: ${image.error}` });
  }
  return wrong;
}

/** Starts sandboxes from some of the images that are ready: each has the file that was written before it. */
export async function readImages(context: CreateContext): Promise<void> {
  const { client, ledger, findings, random } = context;
  const answer = await client.send("GET", "/images?limit=1000");
  if (answer.kind !== "ok") return;
  const { data } = z.object({ data: z.array(ImageSchema) }).parse(answer.body);
  const ready = new Set(data.filter(({ status }) => status === "ready").map(({ image_id }) => image_id));
  const known = ledger.images.filter(({ imageId }) => ready.has(imageId));
  for (let read = 0; read < READ_AT_END && known.length > 0; read += 1) {
    const [image] = known.splice(random.int(0, known.length - 1), 1);
    const { imageId, path, content } = image!;
    const request = newRequest(context);
    request.exit = undefined;
    request.body = { tags: request.body.tags, timeout: 3600, image: imageId };
    const sandbox = await create(context, request);
    const text = sandbox && (await readPatiently(client, sandbox.sandboxId, path));
    if (text !== content)
      findings.add("a snapshot holds what was written before it", `${imageId} ${path}: ${text?.slice(0, 40)}`);
  }
  console.log(`faults: ${ledger.images.length} snapshots acknowledged, ${ready.size} ready`);
}

async function readPatiently(client: Client, sandboxId: string, path: string): Promise<string | undefined> {
  for (let attempt = 0; attempt < READ_ATTEMPTS; attempt += 1) {
    const outcome = await client.send("GET", `/sandboxes/${sandboxId}/files?path=${path}`);
    if (outcome.kind === "ok") return outcome.text;
    if (outcome.kind === "refused") return undefined;
    await new Promise((wake) => setTimeout(wake, RETRY_MS));
  }
  return undefined;
}
