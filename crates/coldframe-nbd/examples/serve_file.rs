//! Serves a file until Enter is pressed: `serve_file unix:/tmp/nbd.sock disk.img`, then
//! `nbdinfo 'nbd+unix:///?socket=/tmp/nbd.sock'`.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::unix::fs::FileExt;

use coldframe_nbd::{Allocation, Export, ExportError, Extents, ListenAddr, NbdServer};
use nix::unistd::{Whence, lseek64};

struct FileDisk {
    file: File,
    size: u64,
}

impl Export for FileDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<(), ExportError> {
        Ok(self.file.read_exact_at(buf, offset)?)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        Ok(self.file.write_all_at(data, offset)?)
    }

    fn flush(&self) -> Result<(), ExportError> {
        Ok(self.file.sync_data()?)
    }

    fn block_status(&self, offset: u64, extents: &mut Extents) -> Result<(), ExportError> {
        let mut at = offset;
        while extents.wants_more() {
            // Seeking for a hole moves a cursor that nobody uses. A file without data behind
            // `at` says ENXIO: the rest is a hole.
            let data = lseek64(&self.file, at as i64, Whence::SeekData).unwrap_or(i64::MAX) as u64;
            extents.push(data - at, Allocation::Hole);
            if !extents.wants_more() {
                break;
            }
            let hole = lseek64(&self.file, data as i64, Whence::SeekHole).unwrap_or(i64::MAX);
            extents.push(hole as u64 - data, Allocation::Data);
            at = hole as u64;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let addr: ListenAddr = args[1].parse()?;
    let file = File::options().read(true).write(true).open(&args[2])?;
    let size = file.metadata()?.len();
    let server = NbdServer::new(FileDisk { file, size }).listen(addr)?;
    println!("{}", server.uri(""));
    std::io::stdin().read_line(&mut String::new())?;
    server.stop()?;
    Ok(())
}
