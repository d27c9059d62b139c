//! The allocator of a policy: small blocks come from lists by size, the rest from the standard allocator.
//!
//! A call allocates a few small blocks and frees all of them again, so the next call finds them on top of their lists: a
//! few instructions each, where the general allocator searches and merges. Small blocks are never given back to the
//! general allocator; a list stays as long as the most blocks of its size that were ever in use at once.
#![allow(unsafe_code, reason = "an allocator hands out raw memory; the proofs stand at each step")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::null_mut;

/// Sizes are powers of two from `SMALLEST` to `SMALLEST << (CLASSES - 1)`, which is 1 KiB. Also the alignment of blocks.
const SMALLEST: usize = 16;
const CLASSES: usize = 7;

/// Blocks are cut from pieces of this size: small, so that a young instance touches few pages of memory.
const PIECE: usize = SMALLEST << (CLASSES - 1);

#[cfg(target_family = "wasm")]
#[global_allocator]
static BLOCKS: Blocks = Blocks { free: [const { Cell::new(null_mut()) }; CLASSES] };

/// By class, the first free block; the first word of a free block points to the next one.
struct Blocks {
    free: [Cell<*mut u8>; CLASSES],
}

// SAFETY: Wasm without threads (see `lib.rs`), where nothing runs beside anything else.
#[cfg(target_family = "wasm")]
unsafe impl Sync for Blocks {}

impl Blocks {
    /// The list that this layout is served from; `None` for the general allocator.
    fn list(&self, layout: Layout) -> Option<(usize, &Cell<*mut u8>)> {
        if layout.align() > SMALLEST {
            return None;
        }
        let size = layout.size().max(SMALLEST).next_power_of_two();
        let class = (size / SMALLEST).trailing_zeros() as usize;
        Some((size, self.free.get(class)?))
    }

    /// Cuts a new piece into free blocks of this size and hands out one of them; null if there is no memory left.
    #[cold]
    fn cut(&self, size: usize, free: &Cell<*mut u8>) -> *mut u8 {
        let Ok(layout) = Layout::from_size_align(PIECE, SMALLEST) else {
            return null_mut();
        };
        // SAFETY: the layout has a size above zero.
        let piece = unsafe { System.alloc(layout) };
        if piece.is_null() {
            return piece;
        }
        for at in (size..PIECE).step_by(size) {
            // SAFETY: `at + size` is at most `PIECE`, since both are powers of two; a block has room for a pointer and is
            // aligned to `SMALLEST`, which is enough for one.
            unsafe {
                let block = piece.add(at);
                block.cast::<*mut u8>().write(free.get());
                free.set(block);
            }
        }
        piece
    }
}

// SAFETY: a block is on its list or handed out, never both, since a list only gives what `dealloc` or `cut` put there; its
// size is at least that of the layout, and the class of a layout is the same in `alloc` and `dealloc`.
unsafe impl GlobalAlloc for Blocks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((size, free)) = self.list(layout) else {
            // SAFETY: the caller's promises are those that `System` asks for.
            return unsafe { System.alloc(layout) };
        };
        let block = free.get();
        if block.is_null() {
            return self.cut(size, free);
        }
        // SAFETY: a block on a list holds the pointer to the next one.
        free.set(unsafe { block.cast::<*mut u8>().read() });
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.list(layout) {
            // SAFETY: the block came from this list, is aligned and large enough for a pointer, and is nobody's now.
            Some((_, free)) => unsafe {
                block.cast::<*mut u8>().write(free.get());
                free.set(block);
            },
            // SAFETY: as in `alloc`.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size`, rounded up to the alignment, is a valid size.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (self.list(layout), self.list(wanted)) {
            (Some((old, _)), Some((new, _))) if old == new => block,
            // SAFETY: both are the general allocator's.
            (None, None) => unsafe { System.realloc(block, layout, size) },
            // SAFETY: two different blocks of at least this many bytes each.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(block, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of all sizes come, move and go; each must keep what was written to it.
    #[test]
    fn blocks_never_overlap() {
        let blocks = Blocks { free: [const { Cell::new(null_mut()) }; CLASSES] };
        let mut held: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut seed: usize = 7;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let check = |(block, layout, mark): &(*mut u8, Layout, u8)| {
            assert_eq!(*block as usize % layout.align(), 0);
            // SAFETY: the block has this size, and was filled.
            let bytes = unsafe { std::slice::from_raw_parts(*block, layout.size()) };
            assert!(bytes.iter().all(|byte| byte == mark));
        };
        // SAFETY: each block is freed or moved once, with the layout that it has.
        let fill = |block: *mut u8, layout: Layout, mark: u8| unsafe {
            assert!(!block.is_null());
            block.write_bytes(mark, layout.size());
            (block, layout, mark)
        };
        for step in 0..20_000 {
            let mark = step as u8;
            let size = 1 + random(if step % 10 == 0 { 5_000 } else { 300 });
            let layout = Layout::from_size_align(size, 1 << random(7)).expect("a small layout");
            match random(5) {
                0 | 1 => held.push(fill(unsafe { blocks.alloc(layout) }, layout, mark)),
                2 | 3 if !held.is_empty() => {
                    let last = held.swap_remove(random(held.len()));
                    check(&last);
                    unsafe { blocks.dealloc(last.0, last.1) };
                }
                _ if !held.is_empty() => {
                    let (block, old, before) = held.swap_remove(random(held.len()));
                    let new = Layout::from_size_align(size, old.align()).expect("a small layout");
                    let moved = unsafe { blocks.realloc(block, old, size) };
                    let kept = Layout::from_size_align(size.min(old.size()), old.align()).expect("a small layout");
                    check(&(moved, kept, before));
                    held.push(fill(moved, new, mark));
                }
                _ => {}
            }
        }
        held.iter().for_each(check);
    }

    #[test]
    fn a_freed_block_is_the_next_one() {
        let blocks = Blocks { free: [const { Cell::new(null_mut()) }; CLASSES] };
        let layout = Layout::from_size_align(100, 8).expect("a small layout");
        // SAFETY: one block, freed once.
        unsafe {
            let first = blocks.alloc(layout);
            blocks.dealloc(first, layout);
            assert_eq!(blocks.alloc(layout), first);
        }
    }
}
