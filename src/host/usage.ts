export const USAGE = `Usage: sandbar host join --url URL --token TOKEN [options]
       sandbar host [options]

Runs sandboxes on this machine for a Sandbar control plane. \`join\` checks the token, keeps it in the data directory together with
the options that are given, and runs the host; from then on \`sandbar host\` alone does so, too. Options that it is given, and
variables, go before what was kept.

  --url URL             the deployment this host works for        SANDBAR_CONTROL_PLANE
                        (also: --control-plane)
  --token TOKEN         the join token of this host               SANDBAR_TOKEN
  --listen HOST:PORT    default 127.0.0.1:8788; port 0: any       SANDBAR_LISTEN
  --advertise URL       where the control plane reaches the host  SANDBAR_ADVERTISE
                        (default: where it listens)
  --runtime RUNTIME     auto, docker or embedded                  SANDBAR_RUNTIME
  --region NAME         where the machine is                      SANDBAR_REGION
  --label KEY=VALUE     what sandboxes can ask for of a host;     SANDBAR_LABELS
                        repeatable (the variable: by commas)
  --cpu-overcommit N    how many times its cores sandboxes may    SANDBAR_CPU_OVERCOMMIT
                        ask for together; default 16
  --memory MIB          what sandboxes may ask for together;      SANDBAR_MEMORY
                        default: what the machine has
  --data-dir DIR        default /var/lib/sandbar as root,         SANDBAR_DATA_DIR
                        ~/.local/share/sandbar otherwise
  --log-window MIB      output kept of each stream of a process;  SANDBAR_LOG_WINDOW
                        default 16, 1 to 1024
  --volume-cache MIB    of volumes, kept for the next sandboxes   SANDBAR_VOLUME_CACHE
                        that mount them; default 10240, or a
                        tenth of the disk if that is less
  --dns ADDRESS[:PORT]  whom the names of sandboxes with rules    SANDBAR_DNS
                        are asked of; repeatable (the variable:
                        by commas); default: whom the machine asks
  --no-run              with join: does not run the host
  --ephemeral           end all sandboxes when the host ends, and end when the parent does
  --help

GPUs are offered where nvidia-smi lists some and the container engine can give them: SANDBAR_GPUS=off offers none, SANDBAR_GPUS=on
takes it for granted that the engine can.
`;

/** What is wrong with the arguments; the message is for the person who typed them. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
