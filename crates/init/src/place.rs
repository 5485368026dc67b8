//! Finds the directory of this program, where the runner puts files for it.

use crate::path::PATH_MAX;
use crate::sys::{self, Fd};

/// The parent of this program's directory, however deep and whatever its name.
pub(crate) fn above_own() -> Option<Fd> {
    let mut path = [0; PATH_MAX];
    let length = sys::own_path(&mut path).ok()?;
    let own = path.get(..length)?;
    let bin = own.iter().rposition(|&byte| byte == b'/')?;
    let above = own[..bin].iter().rposition(|&byte| byte == b'/')?;
    path[above.max(1)] = 0;
    sys::open_place(&path[..=above.max(1)]).ok()
}
