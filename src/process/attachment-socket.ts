/** The socket between an attached client's sandbox object and the process, whatever it is made of. */
export interface AttachmentSocket {
  /** Done when the message has left, or never will: a slow way to the object is waited for here. Never rejects. */
  send(message: Uint8Array | string): Promise<void>;
  /** Closes it behind what was sent. */
  close(): void;
  /** Cuts it at once. */
  terminate(): void;
  /** Binary messages come as bytes, text as strings. To be called once. */
  onMessage(listener: (message: Uint8Array | string) => void): void;
  /** Calls once it is closed, by whomever. To be called once. */
  onClose(listener: () => void): void;
}
