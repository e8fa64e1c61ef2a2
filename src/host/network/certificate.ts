import { createHash, createPublicKey, type KeyObject, randomBytes, sign } from "node:crypto";
import { AsnConvert, OctetString } from "@peculiar/asn1-schema";
import {
  AlgorithmIdentifier,
  AttributeTypeAndValue,
  AttributeValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  GeneralSubtree,
  GeneralSubtrees,
  id_ce_authorityKeyIdentifier,
  id_ce_basicConstraints,
  id_ce_extKeyUsage,
  id_ce_keyUsage,
  id_ce_nameConstraints,
  id_ce_subjectAltName,
  id_ce_subjectKeyIdentifier,
  id_kp_serverAuth,
  KeyIdentifier,
  KeyUsage,
  KeyUsageFlags,
  Name,
  NameConstraints,
  RelativeDistinguishedName,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from "@peculiar/asn1-x509";

const COMMON_NAME = "2.5.4.3";
const ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2";
const SERIAL_BYTES = 16;
/** All addresses there are, each as a network of them. */
const ALL_ADDRESSES = ["0.0.0.0/0", "::/0"];

/** What is to be certified. Keys are of ECDSA; `key` is the subject's own, or only its public half. */
export interface Subject {
  commonName: string;
  key: KeyObject;
  notBefore: Date;
  notAfter: Date;
}

export interface Issuer {
  commonName: string;
  key: KeyObject;
}

/** A root that can vouch for these domains, and what is below them, and for nothing else. As PEM. */
export function rootCertificate(root: Subject, domains: readonly string[]): string {
  const subtrees = (names: GeneralName[]) => new GeneralSubtrees(names.map((base) => new GeneralSubtree({ base })));
  const constraints = new NameConstraints({
    permittedSubtrees: subtrees(domains.map((dNSName) => new GeneralName({ dNSName }))),
    excludedSubtrees: subtrees(ALL_ADDRESSES.map((iPAddress) => new GeneralName({ iPAddress }))),
  });
  return certificate(root, root, [
    extension(id_ce_basicConstraints, new BasicConstraints({ cA: true, pathLenConstraint: 0 }), true),
    extension(id_ce_keyUsage, new KeyUsage(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign), true),
    extension(id_ce_nameConstraints, constraints, true),
    extension(id_ce_subjectKeyIdentifier, new SubjectKeyIdentifier(keyIdentifier(root.key))),
  ]);
}

/** A server of this domain, on the word of a root. As PEM. */
export function serverCertificate(server: Subject, domain: string, root: Issuer): string {
  return certificate(server, root, [
    extension(id_ce_basicConstraints, new BasicConstraints({ cA: false }), true),
    extension(id_ce_keyUsage, new KeyUsage(KeyUsageFlags.digitalSignature), true),
    extension(id_ce_extKeyUsage, new ExtendedKeyUsage([id_kp_serverAuth])),
    extension(id_ce_subjectAltName, new SubjectAlternativeName([new GeneralName({ dNSName: domain })])),
    extension(id_ce_subjectKeyIdentifier, new SubjectKeyIdentifier(keyIdentifier(server.key))),
    extension(
      id_ce_authorityKeyIdentifier,
      new AuthorityKeyIdentifier({ keyIdentifier: new KeyIdentifier(keyIdentifier(root.key)) }),
    ),
  ]);
}

function certificate(subject: Subject, issuer: Issuer, extensions: Extension[]): string {
  const signatureAlgorithm = new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 });
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber(),
    signature: signatureAlgorithm,
    issuer: nameOf(issuer.commonName),
    validity: new Validity({ notBefore: subject.notBefore, notAfter: subject.notAfter }),
    subject: nameOf(subject.commonName),
    subjectPublicKeyInfo: AsnConvert.parse(publicKeyOf(subject.key), SubjectPublicKeyInfo),
    extensions: new Extensions(extensions),
  });
  const signed = sign("sha256", Buffer.from(AsnConvert.serialize(tbsCertificate)), issuer.key);
  const whole = new Certificate({ tbsCertificate, signatureAlgorithm, signatureValue: bytesOf(signed) });
  const lines = Buffer.from(AsnConvert.serialize(whole))
    .toString("base64")
    .match(/.{1,64}/g)!;
  return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
}

const extension = (extnID: string, value: object, critical = false) =>
  new Extension({ extnID, critical, extnValue: new OctetString(AsnConvert.serialize(value)) });

const nameOf = (commonName: string) =>
  new Name([
    new RelativeDistinguishedName([
      new AttributeTypeAndValue({ type: COMMON_NAME, value: new AttributeValue({ utf8String: commonName }) }),
    ]),
  ]);

const publicKeyOf = (key: KeyObject): Buffer =>
  (key.type === "private" ? createPublicKey(key) : key).export({ type: "spki", format: "der" });

const keyIdentifier = (key: KeyObject): ArrayBuffer =>
  bytesOf(createHash("sha256").update(publicKeyOf(key)).digest().subarray(0, 20));

/** Positive, and no byte longer than it must be. */
function serialNumber(): ArrayBuffer {
  const bytes = randomBytes(SERIAL_BYTES);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytesOf(bytes);
}

const bytesOf = (buffer: Buffer): ArrayBuffer => new Uint8Array(buffer).buffer;
