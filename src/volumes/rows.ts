/** Characters of one parameter: SQLite takes 2 MB, and a character is up to 3 bytes. */
const MAX_PARAMETER_CHARACTERS = 500_000;

/**
 * Hands many rows to a statement that reads them from the JSON array `?1` (`value ->> 0` is a row's first column), in as few runs
 * as its size allows. A row by itself must fit.
 */
export function execRows(sql: SqlStorage, statement: string, rows: Iterable<unknown[]>, ...values: unknown[]): void {
  for (const json of inParameters(rows)) sql.exec(statement, json, ...values);
}

function* inParameters(rows: Iterable<unknown[]>): Generator<string> {
  let texts: string[] = [];
  let characters = 0;
  for (const row of rows) {
    const text = JSON.stringify(row);
    if (characters + text.length > MAX_PARAMETER_CHARACTERS && texts.length > 0) {
      yield `[${texts.join(",")}]`;
      texts = [];
      characters = 0;
    }
    texts.push(text);
    characters += text.length + 1;
  }
  if (texts.length > 0) yield `[${texts.join(",")}]`;
}

/** The condition that a path lies below another, both of them expressions. `0` is what comes after `/`. */
export const isBelow = (path: string, above: string): string =>
  `${path} > ${above} || '/' AND ${path} < ${above} || '0'`;

/** The expression of the path above; empty at the top. */
export const parentOf = (path: string): string => `rtrim(rtrim(${path}, replace(${path}, '/', '')), '/')`;
