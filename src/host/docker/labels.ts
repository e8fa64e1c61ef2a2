/** What the engine remembers for us about a container. */
export const LABELS = {
  host: "dev.sandbar.host",
  sandbox: "dev.sandbar.sandbox",
  environment: "dev.sandbar.environment",
  generation: "dev.sandbar.generation",
  deadline: "dev.sandbar.deadline",
  /** Its first process is a launcher. */
  launcher: "dev.sandbar.launcher",
  /** It has an entrypoint of its own, to be shown as a process. */
  entrypoint: "dev.sandbar.entrypoint",
  /** The id under which its filesystem is kept at its deadline. */
  endImage: "dev.sandbar.end-image",
} as const;
