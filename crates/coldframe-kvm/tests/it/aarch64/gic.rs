//! The interrupt controller and its translation service, set up by the VMM as a guest would.

use coldframe_hv::aarch64::{GicModel, ITS_CONTROL_ATTR, decode_rows};
use coldframe_hv::{DirtySource, ItemKind, Machine, MachineState, Verdict};
use coldframe_kvm::{KvmDirty, Tracking};
use kvm_bindings as kvm;

use super::machine::{TestVm, set_attribute};

const DISTRIBUTOR: u32 = kvm::KVM_DEV_ARM_VGIC_GRP_DIST_REGS;
const REDISTRIBUTOR: u32 = kvm::KVM_DEV_ARM_VGIC_GRP_REDIST_REGS;
const SERVICE: u32 = kvm::KVM_DEV_ARM_VGIC_GRP_ITS_REGS;
const VALID: u64 = 1 << 63;

fn thaw(vm: &TestVm) -> (TestVm, MachineState) {
    let state = vm.machine().save().unwrap();
    let (thawed, _) = TestVm::new(1, Tracking::Off).unwrap();
    thawed.write(0, &vm.ram());
    let accepted = thawed.host.compare(&state).accept(&[]).unwrap();
    let restored = thawed.machine().restore(&accepted);
    let _generation = restored.unwrap().generation();
    (thawed, state)
}

fn row(bytes: &[u8], attr: u64) -> u64 {
    let rows = decode_rows(bytes).unwrap();
    rows.iter().find(|row| row.attr == attr).unwrap().value
}

// Parity: K5
#[test]
fn pending_enabled_and_priorities_of_shared_interrupts_come_back() {
    let Some((vm, _)) = TestVm::new(1, Tracking::Off) else {
        return;
    };
    vm.boot(8, 10);
    // Affinity routing and group 1; interrupts 33 to 35; 34 pending; priorities.
    for (attr, value) in [
        (0x0, 0x12),
        (0x84, 0xe),
        (0x104, 0xe),
        (0x204, 0x4),
        (0x420, 0x9080_7060),
        (0xc08, 0x8),
    ] {
        set_attribute(vm.gic(), DISTRIBUTOR, attr, value);
    }
    // Software interrupt 5 pending and enabled in the redistributor.
    set_attribute(vm.gic(), REDISTRIBUTOR, 0x1_0100, 0x20);
    set_attribute(vm.gic(), REDISTRIBUTOR, 0x1_0200, 0x20);
    let (thawed, state) = thaw(&vm);
    let distributor = &state.vm.items[&ItemKind::GIC_DISTRIBUTOR];
    assert_eq!(row(distributor, 0x104), 0xe);
    assert_eq!(row(distributor, 0x204), 0x4);
    assert_eq!(row(distributor, 0x420), 0x9080_7060);
    let redistributor = &state.vcpus[0].items[&ItemKind::GIC_REDISTRIBUTOR];
    assert_eq!(row(redistributor, 0x1_0200), 0x20);
    let again = thawed.machine().save().unwrap();
    assert_eq!(again.vm.items[&ItemKind::GIC_DISTRIBUTOR], *distributor);
    assert_eq!(again.vcpus[0].items, state.vcpus[0].items);
}

/// Device 7's event 3 is LPI 8192, for the only vCPU.
const MSI: kvm::kvm_msi = kvm::kvm_msi {
    address_lo: 0x5101_0040,
    address_hi: 0,
    data: 3,
    flags: kvm::KVM_MSI_VALID_DEVID,
    devid: 7,
    pad: [0; 12],
};
const QUEUE: u64 = 0x8_0000;
const PENDING: u64 = 0xb_0000;

/// Sets up a service with one LPI, which is pending.
fn with_pending_lpi(vm: &TestVm) {
    const PROPERTIES: u64 = 0xa_0000;
    const DEVICES: u64 = 0x9_0000;
    const COLLECTIONS: u64 = 0xc_0000;
    const EVENTS: u64 = 0xd_0000;
    set_attribute(vm.gic(), DISTRIBUTOR, 0x0, 0x12);
    // Enabled, priority 0xa0.
    vm.write(PROPERTIES as usize, &[0xa1]);
    for (attr, value) in [
        (0x70, PROPERTIES | 0xd),
        (0x74, 0),
        (0x78, PENDING),
        (0x7c, 0),
        (0x0, 1),
    ] {
        set_attribute(vm.gic(), REDISTRIBUTOR, attr, value);
    }
    // Tables of devices and collections, one page of 64 KiB each; a queue of one page.
    set_attribute(vm.its(), SERVICE, 0x100, VALID | DEVICES);
    set_attribute(vm.its(), SERVICE, 0x108, VALID | COLLECTIONS);
    set_attribute(vm.its(), SERVICE, 0x80, VALID | QUEUE);
    // MAPD device 7 with 5 bits of events; MAPC collection 0 to vCPU 0; MAPTI event 3 to 8192.
    let commands: [[u64; 4]; 3] = [
        [7 << 32 | 0x8, 4, VALID | EVENTS, 0],
        [0x9, 0, VALID, 0],
        [7 << 32 | 0xa, 8192 << 32 | 3, 0, 0],
    ];
    let bytes: Vec<u8> = commands
        .as_flattened()
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    vm.write(QUEUE as usize, &bytes);
    set_attribute(vm.its(), SERVICE, ITS_CONTROL_ATTR, 1);
    set_attribute(vm.its(), SERVICE, 0x88, bytes.len() as u64);
    assert_eq!(vm.vm.signal_msi(MSI).unwrap(), 1);
}

fn is_pending(vm: &TestVm) -> bool {
    let at = PENDING as usize + 8192 / 8;
    vm.ram()[at] & 1 != 0
}

// Parity: K5
#[test]
fn a_pending_lpi_goes_through_guest_memory_and_comes_back() {
    let Some((vm, _)) = TestVm::new(1, Tracking::Off) else {
        return;
    };
    vm.boot(8, 10);
    with_pending_lpi(&vm);
    assert!(!is_pending(&vm), "before it is saved");
    let (thawed, state) = thaw(&vm);
    assert!(is_pending(&vm), "the kernel wrote the table");
    let its = &state.vm.items[&ItemKind::GIC_ITS];
    assert_eq!(row(its, ITS_CONTROL_ATTR) & 1, 1);
    // What comes out of the thawed machine once more is the same, the bit in memory included.
    thawed.write(PENDING as usize + 8192 / 8, &[0]);
    let again = thawed.machine().save().unwrap();
    assert!(is_pending(&thawed), "it is pending in the thawed machine");
    assert_eq!(again.vm.items[&ItemKind::GIC_ITS], *its);
    // And the mapping of the event is there.
    assert_eq!(thawed.vm.signal_msi(MSI).unwrap(), 1);
}

// Parity: K5
#[test]
fn tables_that_the_kernel_writes_are_dirty_pages() {
    let Some(kvm) = super::machine::open() else {
        return;
    };
    let ring = kvm::KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP;
    let has_ring = kvm.check_extension_raw(ring.into()) > 0;
    let rings = has_ring.then_some(Tracking::Ring { bytes: 65536 });
    for tracking in [Tracking::Log].into_iter().chain(rings) {
        let (vm, slots) = TestVm::new(1, tracking).unwrap();
        let mut source = KvmDirty::new(slots, &vm.vcpus).unwrap();
        vm.boot(8, 10);
        with_pending_lpi(&vm);
        let ram = coldframe_units::ByteLen::new(super::machine::RAM_BYTES as u64);
        let bitmap =
            || coldframe_dirty::DirtyBitmap::new(ram, coldframe_units::PageSize::SIZE_4K).unwrap();
        source.harvest(&bitmap()).unwrap();
        vm.machine().save().unwrap();
        let dirty = bitmap();
        source.harvest(&dirty).unwrap();
        let runs: Vec<_> = dirty.runs().collect();
        let has = |page: u64| {
            runs.iter()
                .any(|run| (run.start().get()..run.end().get()).contains(&page))
        };
        // Devices, collections, events, pending bits.
        for page in [0x90, 0xc0, 0xd0, (PENDING + 8192 / 8) / 4096] {
            assert!(has(page), "{tracking:?}: page {page:#x}");
        }
    }
}

#[test]
fn the_host_says_which_controllers_it_makes() {
    let Some((vm, _)) = TestVm::new(1, Tracking::Off) else {
        return;
    };
    vm.boot(8, 10);
    let mut state = vm.machine().save().unwrap();
    let verdict = |state: &MachineState| {
        let report = vm.host.compare(state);
        let mut items = report.differences().iter();
        items.find(|item| item.item == "gic.kind").unwrap().verdict
    };
    assert_eq!(verdict(&state), Verdict::Same);
    let apple = GicModel::Apple.code().to_le_bytes().to_vec();
    state.vm.items.insert(ItemKind::GIC_MODEL, apple);
    assert_eq!(verdict(&state), Verdict::Impossible);
}

#[test]
fn levels_of_private_lines_come_back_for_each_vcpu() {
    let Some((vm, _)) = TestVm::new(2, Tracking::Off) else {
        return;
    };
    vm.boot(8, 10);
    // Held up by devices: private line 20 of vCPU 1, 21 of vCPU 0.
    let private = |vcpu: u32, line: u32| {
        kvm::KVM_ARM_IRQ_TYPE_PPI << kvm::KVM_ARM_IRQ_TYPE_SHIFT
            | vcpu << kvm::KVM_ARM_IRQ_VCPU_SHIFT
            | line
    };
    for line in [private(1, 20), private(0, 21)] {
        vm.vm.set_irq_line(line, true).unwrap();
    }
    let state = vm.machine().save().unwrap();
    let lines = decode_rows(&state.vm.items[&ItemKind::GIC_LINES]).unwrap();
    let level = |attr: u64| lines.iter().find(|row| row.attr == attr).unwrap().value;
    // The affinity of the vCPU is in bits 32 on of the attribute.
    assert_eq!([level(0) >> 20 & 3, level(1 << 32) >> 20 & 3], [0b10, 0b01]);
    let (thawed, _) = TestVm::new(2, Tracking::Off).unwrap();
    thawed.write(0, &vm.ram());
    let accepted = thawed.host.compare(&state).accept(&[]).unwrap();
    let restored = thawed.machine().restore(&accepted);
    let _generation = restored.unwrap().generation();
    let again = thawed.machine().save().unwrap();
    assert_eq!(
        again.vm.items[&ItemKind::GIC_LINES],
        state.vm.items[&ItemKind::GIC_LINES]
    );
    // What is held up is pending until it is let go.
    thawed.vm.set_irq_line(private(1, 20), false).unwrap();
    let let_go = thawed.machine().save().unwrap();
    let lines = decode_rows(&let_go.vm.items[&ItemKind::GIC_LINES]).unwrap();
    let of_1 = lines.iter().find(|row| row.attr == 1 << 32).unwrap();
    assert_eq!(of_1.value >> 20 & 3, 0);
}
