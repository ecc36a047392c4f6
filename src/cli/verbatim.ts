/**
 * Text that goes out as it is: with colours, or for another program to read. Whatever makes it has made visible what comes from
 * files and QEMUs.
 */
export class Verbatim {
  constructor(readonly text: string) {}
}
