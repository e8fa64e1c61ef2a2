/** Fields as `errors` names them, parted by `|`; values just inside and just outside; and the fields beside them. */
export type Limit = [paths: string, inside: unknown[], outside: unknown[], beside?: object | undefined];

export const many = <Item>(length: number, item: (at: number) => Item) => Array.from({ length }, (_, at) => item(at));
export const x = (length: number) => "x".repeat(length);

const CIDRS = ["0.0.0.0/0", "192.0.2.1/32", "::/0", "2001:db8::/32"];
const NO_CIDRS = ["192.0.2.1", "192.0.2.0/33", "2001:db8::/129", "example.com", "192.0.2/24", "", 1, null];
const DOMAINS = ["example.com", "*.example.com", "_a.b-c.EXAMPLE", "xn--e1afmkfd.example", `${x(63)}.a`, "localhost"];
const NO_DOMAINS = [
  "",
  "*",
  "*example.com",
  "a.*.b",
  "a..b",
  "a.",
  ".a",
  "-a.b",
  "a b",
  "é.a",
  `${x(64)}.a`,
  "192.0.2.1",
  1,
];
const names = (count: number) => many(count, (at) => `a${at}.example`);
/** Of the lists that a create and a change have. */
export const RULES: Limit[] = [
  ["outbound_cidr_allowlist|inbound_cidr_allowlist", [[], many(100, () => CIDRS[0])], [many(101, () => CIDRS[0]), "x"]],
  ["outbound_cidr_allowlist.0|inbound_cidr_allowlist.0", CIDRS, NO_CIDRS],
  ["outbound_domain_allowlist", [[], names(100)], [names(101), "a"]],
  ["outbound_domain_allowlist.0", [...DOMAINS, `*.${x(61)}${`.${x(62)}`.repeat(3)}`], [...NO_DOMAINS, null]],
];
/** Of each of them one value of either side, where what they are made of is tried elsewhere. */
export const firstOf = (limits: Limit[]): Limit[] =>
  limits.map(([paths, inside, outside]) => [paths, inside.slice(0, 1), outside.slice(0, 1)]);
const TO = { domain: "example.com", header: "x", secret: "none" };
export const HEADERS: Limit[] = [
  ["egress_headers", [[]], [many(21, (at) => ({ ...TO, header: `x${at}` })), [TO, { ...TO, header: "X" }], null]],
  ["egress_headers.0.domain", [], [...NO_DOMAINS, "*.example.com", undefined], { egress_headers: [TO] }],
  ["egress_headers.0.header", [], ["", "a b", "a:", x(129), "Host", "te", 1, undefined], { egress_headers: [TO] }],
  ["egress_headers.0.secret", [], ["", "a b", x(65), undefined], { egress_headers: [TO] }],
  ["egress_headers.0.key", [], ["", "1A", "A-B", null], { egress_headers: [TO] }],
  ["egress_headers.0.prefix", [], ["é", "a\n", x(65), null], { egress_headers: [TO] }],
  ["egress_headers.0.value", [], ["x"], { egress_headers: [TO] }],
];
