import { describe, expect, it } from "vitest";
import { call, problemOf } from "./client.ts";

/** What is said of a field of a create, or of a connect token. */
async function said(path: string, json: object): Promise<{ path: string; message: string }[]> {
  const { status, code, errors } = await problemOf(await call("POST", path, { json }));
  expect([status, code]).toEqual([400, "invalid_request"]);
  return errors!;
}

const NO_RANGE = /^must be a range of addresses, such as .* a single one is 192\.0\.2\.1\/32$/;

describe("a value that is refused is told apart", () => {
  it.each<[unknown, RegExp]>([
    ["10.0.0.1", NO_RANGE],
    ["10.0.0.0/33", NO_RANGE],
    ["::/129", NO_RANGE],
    ["::1", NO_RANGE],
    ["010.0.0.0/8", NO_RANGE],
    ["fe80::1%eth0/64", NO_RANGE],
    ["", NO_RANGE],
    [null, NO_RANGE],
    ["::ffff:10.0.0.0/104", /^must be written as a range of IPv4/],
    ["::ffff:a00:1/128", /^must be written as a range of IPv4/],
  ])("range %j", async (range, message) => {
    for (const field of ["outbound_cidr_allowlist", "inbound_cidr_allowlist"]) {
      const errors = await said("/v1/sandboxes", { [field]: [range] });
      expect(errors).toEqual([{ path: `${field}.0`, message: expect.stringMatching(message) }]);
    }
  });

  it.each(["http://x", "*", "*.*.x", "bücher.de", "192.0.2.1", "example.com.", "x:443", "localhost/"])(
    "domain %j",
    async (domain) => {
      const errors = await said("/v1/sandboxes", { outbound_domain_allowlist: [domain] });
      const message = expect.stringMatching(/^must be a domain name in ASCII, without a scheme, port or final dot/);
      expect(errors).toEqual([{ path: "outbound_domain_allowlist.0", message }]);
    },
  );

  it("user_metadata that is neither a text nor an object", async () => {
    const errors = await said("/v1/sandboxes/sb-0000000000000000000000/connect-tokens", {
      port: 8000,
      user_metadata: [1],
    });
    const message = "Invalid input: expected string or object, received array";
    expect(errors).toEqual([{ path: "user_metadata", message }]);
  });

  it("a readiness_probe that is no object", async () => {
    const message = "Invalid input: expected object, received number";
    expect(await said("/v1/sandboxes", { readiness_probe: 5 })).toEqual([{ path: "readiness_probe", message }]);
  });
});
