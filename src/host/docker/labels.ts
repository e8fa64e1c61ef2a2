/** What the engine remembers for us about a container. An empty one is as good as none. */
export const LABELS = {
  host: "dev.sandbar.host",
  sandbox: "dev.sandbar.sandbox",
  /** It was started ahead, under this id; whose it has become since is in a file: see `warm-files.ts`. */
  warm: "dev.sandbar.warm",
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
