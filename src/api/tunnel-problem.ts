import type { Problem } from "../contract/problem.ts";
import { problemResponse } from "./problems.ts";
import { isUpgrade } from "./socket-protocols.ts";

const STYLE =
  "body{font:16px/1.5 system-ui,sans-serif;max-width:36em;margin:15vh auto;padding:0 1em;color:#222;background:#fff}" +
  "h1{font-size:1.4em}p{overflow-wrap:anywhere}small{color:#666}" +
  "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}small{color:#999}}";
/** The hash is that of the style. */
const POLICY =
  "default-src 'none'; style-src 'sha256-tlBuNh6zt9AzPTvo5MyUfIKlvc0v3mPsstu28/zlH98='; base-uri 'none'; form-action 'none'";

/** What is wrong with a tunnel, for who called it: a page for a browser, a problem document for any other. */
export async function tunnelProblem(request: Request, error: unknown): Promise<Response> {
  const answer = problemResponse(error, crypto.randomUUID());
  const { status } = answer;
  const headers = new Headers(answer.headers);
  headers.set("cache-control", "no-store");
  headers.set("x-content-type-options", "nosniff");
  if (!wantsPage(request)) return new Response(answer.body, { status, headers });
  headers.set("content-type", "text/html; charset=utf-8");
  headers.set("content-security-policy", POLICY);
  return new Response(pageOf(await answer.json()), { status, headers });
}

function pageOf({ status, title, code, detail, request_id: requestId }: Problem): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<h1>${escaped(title)}</h1>
<p>${escaped(detail ?? "")}</p>
<p><small>${status} ${escaped(code)}, request ${escaped(requestId ?? "")}</small></p>
</body>
</html>
`;
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escaped = (text: string) => text.replaceAll(/[&<>"']/g, (character) => ENTITIES[character]!);

/** True where HTML is asked for by name, and JSON is not preferred. */
function wantsPage(request: Request): boolean {
  if ((request.method !== "GET" && request.method !== "HEAD") || isUpgrade(request)) return false;
  const accepted = (request.headers.get("accept") ?? "").toLowerCase().split(",");
  const weightOf = (...types: string[]) =>
    Math.max(
      0,
      ...accepted.map((one) => {
        const [type, ...parameters] = one.split(";").map((part) => part.trim());
        if (!types.includes(type!)) return 0;
        const weight = Number(parameters.find((parameter) => parameter.startsWith("q="))?.slice(2) ?? 1);
        return Number.isNaN(weight) ? 0 : weight;
      }),
    );
  const html = weightOf("text/html");
  return html > 0 && html >= weightOf("application/json", "application/problem+json");
}
