/** What the CPU of a VM is to its guest. */
export interface CpuIdentity {
  /** Of QEMU's object: `max-x86_64-cpu`, `host-arm-cpu`, `power9_v2.2-powerpc64-cpu`. */
  type: string;
  /** x86: what is set in each register of CPUID, by `LEAF.SUBLEAF.REGISTER`, both in hexadecimal. */
  words?: { [place: string]: number };
  /** Features that the model has, by QEMU's names, sorted; where QEMU can tell them. */
  features?: string[];
}
