/** The newest generation that was deleted, by sandbox, for a while: a start of it that comes late finds it here. */
export class DeletedGenerations {
  readonly #keepMs: number;
  readonly #deleted = new Map<string, { generation: number; at: number }>();

  constructor(keepMs: number) {
    this.#keepMs = keepMs;
  }

  add(sandboxId: string, generation: number): void {
    const at = Date.now();
    const newest = Math.max(generation, this.newest(sandboxId));
    this.#deleted.delete(sandboxId);
    this.#deleted.set(sandboxId, { generation: newest, at });
    for (const [id, deleted] of this.#deleted) {
      if (deleted.at > at - this.#keepMs) break;
      this.#deleted.delete(id);
    }
  }

  /** 0 where none was. */
  newest(sandboxId: string): number {
    return this.#deleted.get(sandboxId)?.generation ?? 0;
  }
}
