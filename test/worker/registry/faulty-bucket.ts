import { env } from "cloudflare:test";

/** What of the bucket fails. */
export type BucketCall = "get" | "put" | "head" | "begin" | "part" | "complete";

/** The real bucket, of which a call fails so many times: before it is done, or after. */
export function faultyBucket(failing: BucketCall, { times = Infinity, isDone = false } = {}): R2Bucket {
  let left = times;
  const guard =
    <Args extends unknown[], T>(name: BucketCall, call: (...args: Args) => Promise<T>) =>
    async (...args: Args): Promise<T> => {
      const fails = name === failing && left > 0;
      if (fails) left -= 1;
      if (fails && !isDone) throw new Error("R2 is away (10001)");
      const result = await call(...args);
      if (fails) throw new Error("R2 was done and did not say so (10001)");
      return result;
    };
  const bucket = env.SNAPSHOTS;
  return {
    get: guard("get", bucket.get.bind(bucket) as R2Bucket["get"]),
    put: guard("put", bucket.put.bind(bucket) as R2Bucket["put"]),
    head: guard("head", bucket.head.bind(bucket)),
    delete: bucket.delete.bind(bucket),
    createMultipartUpload: guard("begin", bucket.createMultipartUpload.bind(bucket)),
    resumeMultipartUpload: (key: string, id: string) => {
      const upload = bucket.resumeMultipartUpload(key, id);
      return {
        key,
        uploadId: id,
        uploadPart: guard("part", upload.uploadPart.bind(upload)),
        complete: guard("complete", upload.complete.bind(upload)),
        abort: upload.abort.bind(upload),
      };
    },
  } as unknown as R2Bucket;
}
