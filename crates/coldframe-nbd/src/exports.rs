//! Exports by name. Invariants: names are unique; the first export is the default one, which
//! clients get that name none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::proto::{Catalog, Errno, ExportInfo};
use crate::{Export, ExportError, NbdError};

/// The longest name, in bytes, as the protocol has it for strings.
const NAME_BYTES_MAX: usize = 4096;

struct Named {
    name: String,
    export: Arc<dyn Export>,
}

/// What a server serves, by name.
#[derive(Default)]
pub(crate) struct Exports {
    list: Vec<Named>,
}

impl Exports {
    pub(crate) fn add(&mut self, name: String, export: Arc<dyn Export>) -> Result<(), NbdError> {
        let is_taken = self.list.iter().any(|named| named.name == name);
        if is_taken || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(NbdError::ExportName { name });
        }
        self.list.push(Named { name, export });
        Ok(())
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Arc<dyn Export>> {
        self.list.get(index).map(|named| &named.export)
    }

    /// Flushes every export that can be written; tries all, and tells the first failure.
    pub(crate) fn flush(&self) -> Result<(), NbdError> {
        let mut result = Ok(());
        for Named { name, export } in &self.list {
            if export.is_read_only() {
                continue;
            }
            let flushed = catch_unwind(AssertUnwindSafe(|| export.flush()));
            let flushed =
                flushed.unwrap_or_else(|_| Err(ExportError::new(Errno::Io, "the export panicked")));
            if let Err(source) = flushed {
                let name = name.clone();
                result = result.and(Err(NbdError::FinalFlush { name, source }));
            }
        }
        result
    }
}

impl Catalog for Exports {
    fn names(&self) -> Vec<String> {
        self.list.iter().map(|named| named.name.clone()).collect()
    }

    fn find(&self, name: &str) -> Option<ExportInfo> {
        let mut named = self.list.iter().enumerate();
        let (index, Named { name, export }) =
            named
                .clone()
                .find(|(_, named)| named.name == name)
                .or_else(|| named.next().filter(|_| name.is_empty()))?;
        Some(ExportInfo {
            index,
            name: name.clone(),
            description: export.description(),
            size: export.size(),
            is_read_only: export.is_read_only(),
            has_fast_zero: !export.is_read_only() && export.has_fast_zero(),
            block_sizes: export.block_sizes(),
        })
    }
}
