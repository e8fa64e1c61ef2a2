import { ApiError } from "../../contract/errors.ts";
import type { ImageSource, ImageTarget } from "../../contract/host-protocol.ts";
import { Joined } from "../joined.ts";
import { Gateway } from "../registry/gateway.ts";
import { type Engine, EngineError } from "./engine.ts";
import { readableReason } from "./start-reason.ts";

/** Moves images between the engine and the control plane's registry, by the engine's own pull and push. */
export class RegistryImages {
  readonly #engine: Engine;
  readonly #gateway: Gateway | undefined;
  readonly #pulls = new Joined<void>();

  /** `onListening` is told the address under which the engine will know images while they are on their way. */
  constructor(engine: Engine, controlPlaneUrl: string | undefined, onListening?: (address: string) => Promise<void>) {
    this.#engine = engine;
    this.#gateway = controlPlaneUrl === undefined ? undefined : new Gateway(controlPlaneUrl, onListening);
  }

  /** Pulls an image and calls it `reference`; once, however many ask for it at the same time. Throws {@link EngineError}. */
  pull(source: ImageSource, reference: string): Promise<void> {
    return this.#pulls.run(reference, () => this.#pull(source, reference));
  }

  async #pull(source: ImageSource, reference: string): Promise<void> {
    const engine = this.#engine;
    await this.#open().admit(source, async ({ name, auth }) => {
      const full = `${name}@${source.digest}`;
      try {
        await engine.pull(full, auth);
        const at = reference.lastIndexOf(":");
        await engine.tag(full, reference.slice(0, at), reference.slice(at + 1));
      } finally {
        await engine.removeImage(full, { force: false }).catch(() => undefined);
      }
    });
  }

  /** Pushes an image of this machine. `uploadedBytes`: what the registry did not have. Throws `image_not_stored` with the reason. */
  async push(reference: string, { repository, tag, token }: ImageTarget): Promise<{ uploadedBytes: number }> {
    const engine = this.#engine;
    return this.#open().admit({ repository, token }, async ({ name, auth }, visit) => {
      try {
        await engine.tag(reference, name, tag);
        await engine.push(name, tag, auth);
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        const detail = `The image could not be stored in the registry: ${readableReason(error.message)}.`;
        throw new ApiError("image_not_stored", { detail, cause: error });
      } finally {
        await engine.removeImage(`${name}:${tag}`, { force: false }).catch(() => undefined);
      }
      return { uploadedBytes: visit.uploadedBytes };
    });
  }

  #open(): Gateway {
    if (this.#gateway) return this.#gateway;
    throw new ApiError("backend_unavailable", {
      detail: "The host knows no control plane whose registry it could use.",
    });
  }
}
