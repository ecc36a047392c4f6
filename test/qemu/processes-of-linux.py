# For gdb: the processes of the Linux in an ELF core, found as a debugger without debug information can. The kernel's own
# page tables lead from its virtual addresses to the guest-physical ones of the core; the process of each CPU that idles has
# a name that is known; and where the list of all processes is beside a name is found by trying, since only one place
# leads around.
#
# Set by the caller: PAGE_TABLES, address of swapper_pg_dir, and LEVELS of tables, both from VMCOREINFO; KERNEL_START and
# KERNEL_END, where the core has the kernel's image.
import gdb

inferior = gdb.selected_inferior()


def number(physical):
    return int.from_bytes(inferior.read_memory(physical, 8), 'little')


def physical(address):
    table = PAGE_TABLES
    for level in range(LEVELS - 1, -1, -1):
        shift = 12 + 9 * level
        entry = number(table + 8 * (address >> shift & 511))
        if not entry & 1:
            raise gdb.MemoryError(f'{address:x} is not mapped')
        table = entry & 0x000ffffffffff000
        if level == 0 or entry & 0x80:
            return (table & ~((1 << shift) - 1)) + (address & (1 << shift) - 1)


def read(address, length):
    return bytes(inferior.read_memory(physical(address), length))


def names(first, distance):
    """The names of all processes whose list heads are `distance` bytes before their names; None when that leads nowhere."""
    found = []
    head = first
    while len(found) < 10000:
        name = read(head + distance, 16).split(b'\0')[0]
        if not name or not name.isascii():
            return None
        found.append(name.decode())
        following = number(physical(head))
        if number(physical(following + 8)) != head:
            return None
        head = following
        if head == first:
            return found
    return None


def all_processes():
    start = KERNEL_START
    while idle := inferior.search_memory(start, KERNEL_END - start, b'swapper/0\0'):
        for distance in range(8, 8192, 8):
            try:
                found = names(idle - distance, distance)
            except gdb.MemoryError:
                continue
            if found and len(found) > 2:
                return found
        start = idle + 1


print('processes: ' + ' '.join(all_processes() or []))
