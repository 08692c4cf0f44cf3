//! A blob, from the registry into a file: resumed where it broke off, verified before it counts.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use reqwest::StatusCode;

use super::client::Session;
use super::http::Refused;
use crate::image::digest;
use crate::image::error::{Error, IoContext};

/// How often in a row a download is taken up again without a byte having come.
const TRIES: u32 = 5;
/// The first pause before that; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two looks whether another nslab is done with the same blob.
const POLL: Duration = Duration::from_millis(100);

/// A blob as a manifest describes it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// `sha256:<hex>`, checked to be one.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// Downloads `wanted` to `target`. What has come so far is in `partial`, which stays when the
/// download fails, and is gone on with next time. `tell` is called with the bytes so far.
pub(super) async fn blob(
    session: &Session<'_>,
    wanted: &Wanted,
    partial: &Path,
    target: &Path,
    tell: &dyn Fn(u64),
) -> Result<(), Error> {
    let mut file = claim(partial, target).await?;
    let Some(file) = &mut file else {
        return Ok(());
    };
    let mut have = file.metadata().on("look at", partial)?.len();
    if have > wanted.size {
        have = 0;
    }
    // What is left of a former run may be damaged: the whole blob is asked for once more then.
    let mut fresh = have == 0;
    loop {
        fetch(session, wanted, file, partial, &mut have, tell).await?;
        let got = digest::of_file(partial)?;
        if got == wanted.digest {
            break;
        }
        if fresh {
            // Not to be gone on with.
            std::fs::remove_file(partial).on("remove", partial)?;
            return Err(Error::Digest {
                what: format!("blob {} from {}", wanted.digest, session.image.registry()),
                want: wanted.digest.clone(),
                got,
            });
        }
        (have, fresh) = (0, true);
    }
    file.sync_all().on("write", partial)?;
    std::fs::rename(partial, target).on("move a blob to", target)
}

/// The partial file, locked. `None`: another nslab has made the target meanwhile.
///
/// The lock is waited for without blocking: the thread has other downloads to go on with, and two
/// processes may each have what the other one waits for.
async fn claim(partial: &Path, target: &Path) -> Result<Option<File>, Error> {
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(partial)
            .on("open", partial)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(std::fs::TryLockError::Error(e)) => return Err(e).on("lock", partial),
        }
        if target.exists() {
            let _ = std::fs::remove_file(partial);
            return Ok(None);
        }
        // Whoever had the lock may have moved the file away: that one is no longer ours to write.
        let named = std::fs::metadata(partial).ok();
        let ours = file.metadata().on("look at", partial)?;
        if named.is_some_and(|n| same_file(&n, &ours)) {
            return Ok(Some(file));
        }
    }
}

fn same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Brings the file to the wanted size, over as many requests as it takes.
async fn fetch(
    session: &Session<'_>,
    wanted: &Wanted,
    file: &mut File,
    partial: &Path,
    have: &mut u64,
    tell: &dyn Fn(u64),
) -> Result<(), Error> {
    file.set_len(*have).on("cut", partial)?;
    let mut tries = 0;
    while *have < wanted.size {
        let before = *have;
        let why = match request(session, wanted, file, have, tell).await {
            Ok(()) => "the connection was closed too early".to_owned(),
            Err(Broken::Disk(e)) => {
                // A full disk is not helped by a half blob that stays.
                let _ = std::fs::remove_file(partial);
                return Err(e).on("write", partial);
            }
            Err(Broken::Refused(e)) => return Err(session.explain(&e)),
            Err(Broken::TooLong) => {
                let _ = std::fs::remove_file(partial);
                return Err(Error::Registry {
                    reference: session.image.whole(),
                    why: format!(
                        "blob {} is longer than the {} bytes that its manifest says",
                        wanted.digest, wanted.size
                    ),
                });
            }
            Err(Broken::Network(why)) => why,
        };
        if *have >= wanted.size {
            break;
        }
        tries = if *have > before { 1 } else { tries + 1 };
        if tries > TRIES {
            return Err(Error::Registry {
                reference: session.image.whole(),
                why: format!(
                    "blob {} broke off after {have} of {} bytes: {why}; run it again to go on from \
                     there",
                    wanted.digest, wanted.size
                ),
            });
        }
        tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
    }
    Ok(())
}

/// How a request ended before its blob did.
enum Broken {
    /// Asking again may help.
    Network(String),
    /// Asking again will not help.
    Refused(Refused),
    /// More bytes came than the manifest says.
    TooLong,
    Disk(io::Error),
}

/// One request, from where the file ends.
async fn request(
    session: &Session<'_>,
    wanted: &Wanted,
    file: &mut File,
    have: &mut u64,
    tell: &dyn Fn(u64),
) -> Result<(), Broken> {
    let mut response = match session.blob(&wanted.digest, *have).await {
        Ok(response) => response,
        Err(Refused::Request(e)) => return Err(Broken::Network(e.to_string())),
        Err(Refused::Status { code, said }) if code >= 500 => {
            return Err(Broken::Network(format!("it answers {code}: {said}")));
        }
        Err(e) => return Err(Broken::Refused(e)),
    };
    if response.status() != StatusCode::PARTIAL_CONTENT {
        // The registry gives whole blobs only.
        *have = 0;
    }
    file.set_len(*have).map_err(Broken::Disk)?;
    file.seek(SeekFrom::Start(*have)).map_err(Broken::Disk)?;
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|e| Broken::Network(e.to_string()))?
    {
        if *have + chunk.len() as u64 > wanted.size {
            return Err(Broken::TooLong);
        }
        file.write_all(&chunk).map_err(Broken::Disk)?;
        *have += chunk.len() as u64;
        tell(*have);
    }
    Ok(())
}
