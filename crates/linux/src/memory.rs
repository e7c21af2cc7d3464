//! How the kernel gives memory to this process.

/// Asks for pages of 4 KiB only. With huge ones each first use of a part of the heap costs 2 MiB and
/// the time to clear it: an idle server is a third larger, and starts later.
///
/// # Errors
/// When the kernel does not know the setting; nothing is lost then but that.
pub fn small_pages_only() -> std::io::Result<()> {
    rustix::thread::disable_transparent_huge_pages(true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_setting_is_made() {
        super::small_pages_only().expect("the kernel knows the setting");
        let disabled = rustix::thread::transparent_huge_pages_are_disabled();
        assert!(disabled.expect("the kernel knows the setting"));
    }
}
