// Arrow pages as they come from Python.
import { tableFromIPC, type Table } from "@uwdata/flechette";

export type { Table };

/** The table in an Arrow IPC stream. */
export function table(buffer: DataView): Table {
  return tableFromIPC(new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength));
}
