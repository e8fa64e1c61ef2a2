/** What the engine remembers for us about a container. */
export const LABELS = {
  host: "dev.sandbar.host",
  sandbox: "dev.sandbar.sandbox",
  environment: "dev.sandbar.environment",
  generation: "dev.sandbar.generation",
  deadline: "dev.sandbar.deadline",
} as const;
