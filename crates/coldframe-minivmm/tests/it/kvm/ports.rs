//! The ports, used by a guest in real mode; and the state that they leave.

use coldframe_minivmm::{
    Backing, Config, DeviceStateError, EndReason, Entry, Event, Guest, MiniVm, MiniVmError,
    Program, Shape, Stops, Tracking, Workload,
};
use coldframe_units::{ByteLen, GuestAddr};
use vm_memory::{Bytes, GuestAddress};

use super::{no_kvm, short};

/// A machine that runs `code`.
fn machine(code: &[u8], load_at: u64, entry: Entry) -> MiniVm {
    MiniVm::boot(&Config {
        ram: Config::RAM_MIN,
        backing: Backing::Anonymous,
        shape: Shape {
            vcpus: 1,
            irqchip: false,
        },
        tracking: Tracking::Off,
        program: Program::Flat {
            bytes: code.to_vec(),
            load_at: GuestAddr::new(load_at),
            entry,
        },
    })
    .unwrap()
}

/// Runs `code` in real mode at 0x1000, and checks how it ends.
#[track_caller]
fn check_end(code: &[u8], end: EndReason) -> MiniVm {
    let mut vm = machine(code, 0x1000, Entry::Real);
    let event = vm.run_until_event(Stops::MARKS).unwrap();
    assert_eq!(event, Event::Ended(end));
    vm
}

#[test]
fn the_guest_ends_by_code_by_reset_and_by_halting() {
    if no_kvm() {
        return;
    }
    // mov al, 7; out 0xf4, al
    check_end(&[0xb0, 7, 0xe6, 0xf4], EndReason::Code(7));
    // mov al, 1; out 0x64, al; mov al, 0xfe; out 0x64, al
    check_end(
        &[0xb0, 1, 0xe6, 0x64, 0xb0, 0xfe, 0xe6, 0x64],
        EndReason::Reset,
    );
    // cli; hlt
    check_end(&[0xfa, 0xf4], EndReason::Halted);
}

#[test]
fn unknown_ports_read_all_ones_and_ignore_writes() {
    if no_kvm() {
        return;
    }
    let vm = check_end(
        &[
            0xe5, 0x80, // in ax, 0x80
            0xa3, 0x00, 0x30, // mov [0x3000], ax
            0xe7, 0xf0, // out 0xf0, ax: no mark, 16 bits
            0xe6, 0xf0, // out 0xf0, al: no mark, 8 bits
            0xba, 0xfd, 0x03, 0xec, // mov dx, 0x3fd; in al, dx
            0xa2, 0x02, 0x30, // mov [0x3002], al
            0xe6, 0x80, // out 0x80, al
            0xb0, 0, 0xe6, 0xf4, // mov al, 0; out 0xf4, al
        ],
        EndReason::Code(0),
    );
    let mut read = [0; 3];
    vm.memory()
        .read_slice(&mut read, GuestAddress(0x3000))
        .unwrap();
    assert_eq!(read, [0xff, 0xff, 0x60]);
    assert_eq!((vm.marks(), vm.exits()), (0, 6));
}

#[test]
fn a_string_written_to_the_console_is_printed_once() {
    if no_kvm() {
        return;
    }
    let mut code = vec![
        0xbe, 0x10, 0x10, // mov si, 0x1010
        0xb9, 0x05, 0x00, // mov cx, 5
        0xba, 0xf8, 0x03, // mov dx, 0x3f8
        0xf3, 0x6e, // rep outsb
        0xb0, 0, 0xe6, 0xf4, // mov al, 0; out 0xf4, al
    ];
    code.resize(0x10, 0x90);
    code.extend_from_slice(b"hello");
    assert_eq!(check_end(&code, EndReason::Code(0)).console(), b"hello");
}

#[test]
fn addresses_outside_ram_read_all_ones_and_ignore_writes() {
    if no_kvm() {
        return;
    }
    let code = [
        0xa3, 0, 0, 0, 0xd0, // mov [0xd0000000], eax
        0xa1, 0, 0, 0, 0xd0, // mov eax, [0xd0000000]
        0xa3, 0, 0x30, 0, 0, // mov [0x3000], eax
        0xb0, 0, 0xe6, 0xf4, // mov al, 0; out 0xf4, al
    ];
    let mut vm = machine(&code, 0x10_0000, Entry::Protected);
    let event = vm.run_until_event(Stops::NONE).unwrap();
    assert_eq!(event, Event::Ended(EndReason::Code(0)));
    let mut read = [0; 4];
    vm.memory()
        .read_slice(&mut read, GuestAddress(0x3000))
        .unwrap();
    assert_eq!(read, [0xff; 4]);
    assert_eq!(vm.exits(), 3);
}

#[test]
fn device_state_goes_over_to_another_machine() {
    if no_kvm() {
        return;
    }
    let config = short(Workload::Idle);
    let mut one = MiniVm::boot(&config).unwrap();
    one.run_until_event(Stops::MARKS).unwrap();
    one.run_until_event(Stops::MARKS).unwrap();
    let mut other = MiniVm::boot(&config).unwrap();
    other.restore_device(&one.device_state()).unwrap();
    assert_eq!(other.device_state(), one.device_state());
    assert_eq!(other.console(), one.console());
    assert_eq!((other.marks(), other.exits()), (2, one.exits()));
}

#[test]
fn damaged_device_state_is_refused() {
    if no_kvm() {
        return;
    }
    let mut vm = MiniVm::boot(&short(Workload::Idle)).unwrap();
    vm.run_until_event(Stops::MARKS).unwrap();
    vm.run_until_event(Stops::MARKS).unwrap();
    let good = vm.device_state();
    for len in 0..good.len() {
        let refused = vm.restore_device(&good[..len]);
        assert!(matches!(refused, Err(MiniVmError::DeviceState(_))));
    }
    let mut newer = good.clone();
    newer[0] = 3;
    let found = DeviceStateError::Version { found: 3 };
    assert!(matches!(vm.restore_device(&newer), Err(MiniVmError::DeviceState(e)) if e == found));
    let mut huge = good.clone();
    huge[24..32].fill(0xff);
    assert!(vm.restore_device(&huge).is_err());
    assert_eq!(vm.device_state(), good);
}

#[test]
fn machines_that_cannot_be_built_are_refused() {
    if no_kvm() {
        return;
    }
    let mut config = short(Workload::Smp);
    config.shape.irqchip = false;
    assert!(matches!(
        MiniVm::boot(&config),
        Err(MiniVmError::Shape { vcpus: 2 })
    ));
    config = short(Workload::Hash);
    config.ram = ByteLen::new((16 << 20) + 1);
    assert!(matches!(
        MiniVm::boot(&config),
        Err(MiniVmError::RamSize { .. })
    ));
}
