import { ARCHIVE } from "./source/archive.ts";
import { CHANGES } from "./source/changes.ts";
import { CONNECTIONS } from "./source/connections.ts";
import { FILES } from "./source/files.ts";
import { PROCESSES } from "./source/processes.ts";
import { STARTING } from "./source/starting.ts";
import { TREE } from "./source/tree.ts";
import { WATCH } from "./source/watch.ts";

/**
 * The agent: what a Cloudflare container runs as its first process. It starts processes, holds their output until the
 * object has it in its storage, and does all that is asked of files, so that an exec costs a fork instead of an engine's exec and
 * outlives the object that asked for it. It is Perl, which every image made from Debian or Ubuntu brings along (`perl-base`),
 * and uses nothing beyond that package.
 *
 * Everything it says is hostile input to the object: root in the sandbox can be it.
 */
export const AGENT_PROGRAM = `${CONNECTIONS}${FILES}${TREE}${CHANGES}${ARCHIVE}${WATCH}${STARTING}${PROCESSES}\nserve();\n`;

/** The port it listens on inside. No tunnel leads there. */
export const AGENT_PORT = 39_717;
