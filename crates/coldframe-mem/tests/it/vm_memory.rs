//! Guest memory of the crate vm-memory.

use coldframe_mem::{MapOptions, restore_map_vm_memory};
use coldframe_units::PageSize;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::support::{Files, chain, memory, page, read, spec};

#[test]
fn a_guest_memory_is_captured_and_mapped_back() {
    let ranges = [(GuestAddress(0), 1 << 20), (GuestAddress(8 << 20), 2 << 20)];
    let guest = GuestMemoryMmap::<()>::from_ranges(&ranges).unwrap();
    guest.write_slice(&page(7), GuestAddress(0x3000)).unwrap();
    guest
        .write_slice(&page(8), GuestAddress((8 << 20) + 0x5000))
        .unwrap();
    let files = Files::new();
    let (file, _) = files.full(&guest, &spec(PageSize::SIZE_4K));
    let chained = chain(&[file]);
    let thawed: GuestMemoryMmap<()> =
        restore_map_vm_memory(&chained, MapOptions::default(), |_, _| ()).unwrap();
    assert!(read(&thawed) == memory(&chained));
    let mut bytes = vec![0; 4096];
    thawed
        .read_slice(&mut bytes, GuestAddress((8 << 20) + 0x5000))
        .unwrap();
    assert_eq!(bytes, page(8));
    thawed.write_slice(&[1], GuestAddress(0)).unwrap();
    let (again, _) = files.full(&thawed, &spec(PageSize::SIZE_4K));
    assert!(memory(&chain(&[again])) == read(&thawed));
}
