// Numbers as they are read.

/** A number with so many digits that count, and no zeros after them. */
export function rounded(value: number, digits = 3): string {
  return String(Number(value.toPrecision(digits)));
}
