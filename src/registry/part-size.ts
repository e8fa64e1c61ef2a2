/** Size of every part of a multipart upload but the last: R2 wants them equal. It is what a request keeps in memory, twice at most. */
export const PART_BYTES = 8 * 1024 * 1024;
/** R2 takes no more parts. */
const MAX_PARTS = 10_000;
export const MAX_BLOB_BYTES = MAX_PARTS * PART_BYTES;
