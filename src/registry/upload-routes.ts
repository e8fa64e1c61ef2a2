import { isRefusal, RegistryError } from "./errors.ts";
import { finishUpload } from "./finish-upload.ts";
import { holding } from "./hold.ts";
import { environmentOf, requireDigest } from "./names.ts";
import type { TargetOf } from "./path.ts";
import { UploadWriter } from "./upload-writer.ts";
import { asWriter } from "./writers.ts";
import type { Claim } from "./rpc.ts";
import type { Visit } from "./visit.ts";

/** `POST`: begins an upload, is a whole one, or mounts a blob that the environment has. */
export async function beginUpload(visit: Visit, { repository }: TargetOf<"uploads">): Promise<Response> {
  const { query, registry } = visit;
  const mount = query.get("mount");
  if (mount !== null) {
    const from = query.get("from");
    const isOwn = from === null || environmentOf(from) === visit.environment;
    const digest = requireDigest(mount);
    if (isOwn && (await registry.findBlob(digest))) return created(repository, digest);
  }
  const whole = mount === null ? query.get("digest") : null;
  const digest = whole === null ? undefined : requireDigest(whole);
  const uploadId = await registry.openUpload(repository);
  if (digest === undefined) return progress(202, repository, uploadId, 0);
  try {
    return await complete(visit, repository, uploadId, digest);
  } catch (error) {
    // The client knows no name for it that it could go on with.
    await registry.discardUpload(repository, uploadId).catch(() => undefined);
    throw error;
  }
}

/** `PATCH`: more bytes. */
export async function appendToUpload(visit: Visit, target: TargetOf<"upload">): Promise<Response> {
  const { repository, uploadId } = target;
  const { offset } = await atIt(visit, repository, uploadId, (claim) => write(visit, uploadId, claim));
  return progress(202, repository, uploadId, offset);
}

/** `PUT`: the last bytes, if any, and what all of them must be. */
export async function completeUpload(visit: Visit, { repository, uploadId }: TargetOf<"upload">): Promise<Response> {
  const digest = requireDigest(visit.query.get("digest"));
  try {
    return await complete(visit, repository, uploadId, digest);
  } catch (error) {
    // As when this is sent again while the first is still at it: with nothing to add, there is only to wait.
    if (visit.request.body || !isRefusal(error, "BLOB_UPLOAD_BUSY")) throw error;
    throw new RegistryError("UNAVAILABLE", { message: error.message, cause: error });
  }
}

/** `GET`: how far it is. */
export async function answerUpload(
  { registry }: Visit,
  { repository, uploadId }: TargetOf<"upload">,
): Promise<Response> {
  return progress(204, repository, uploadId, await registry.uploadOffset(repository, uploadId));
}

/** `DELETE`: gives it up. */
export async function cancelUpload(
  { registry }: Visit,
  { repository, uploadId }: TargetOf<"upload">,
): Promise<Response> {
  await registry.discardUpload(repository, uploadId);
  return new Response(null, { status: 204 });
}

async function complete(visit: Visit, repository: string, uploadId: string, digest: string): Promise<Response> {
  const { registry, store } = visit;
  await atIt(visit, repository, uploadId, async (claim) => {
    await finishUpload(registry, store, uploadId, await write(visit, uploadId, claim), digest);
  });
  return created(repository, digest);
}

async function write({ request, registry, store }: Visit, uploadId: string, claim: Claim): Promise<Claim> {
  if (!request.body) return claim;
  const body = request.body as ReadableStream<Uint8Array>;
  return asWriter(() => new UploadWriter(registry, store, uploadId, claim).write(body));
}

/** Works on the upload as its one writer, from where the request says that it begins. */
async function atIt<T>(
  { request, registry }: Visit,
  repository: string,
  uploadId: string,
  work: (claim: Claim) => Promise<T>,
): Promise<T> {
  const first = firstByteOf(request.headers);
  try {
    const claim = await registry.claimUpload(repository, uploadId, first);
    return await holding(registry, uploadId, claim, work);
  } catch (error) {
    if (!isRefusal(error, "BLOB_UPLOAD_OUT_OF_ORDER") && !isRefusal(error, "BLOB_UPLOAD_BUSY")) throw error;
    const { refusal, message, detail = {} } = error;
    const { headers } = progress(416, repository, uploadId, Number(detail["offset"]));
    throw new RegistryError(refusal, { message, detail, headers: Object.fromEntries(headers) });
  }
}

/** Where the bytes of the request begin, if it says so. */
function firstByteOf(headers: Headers): number | undefined {
  const header = headers.get("content-range");
  if (header === null) return undefined;
  const [, first, last] = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\d+|\*))?$/.exec(header.trim()) ?? [];
  if (first === undefined || Number(last) < Number(first)) {
    throw new RegistryError("BLOB_UPLOAD_INVALID", { message: "Content-Range is not of the form `<first>-<last>`." });
  }
  const length = headers.get("content-length");
  if (length !== null && Number(length) !== Number(last) - Number(first) + 1) {
    throw new RegistryError("SIZE_INVALID", { message: "Content-Range and Content-Length do not say the same." });
  }
  return Number(first);
}

function progress(status: number, repository: string, uploadId: string, offset: number): Response {
  const headers = {
    location: `/v2/${repository}/blobs/uploads/${uploadId}`,
    "docker-upload-uuid": uploadId,
    range: `0-${Math.max(0, offset - 1)}`,
  };
  // An error's headers are taken from here, too: no response has a body.
  return new Response(null, { status, headers });
}

function created(repository: string, digest: string): Response {
  const headers = { location: `/v2/${repository}/blobs/${digest}`, "docker-content-digest": digest };
  return new Response(null, { status: 201, headers });
}
