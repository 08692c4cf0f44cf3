//! Images of recipes: built where the recipe, its inputs or its base are not what they were.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use super::sources::remote_key;
use super::{Store, find, short};
use crate::image::build::{self, Places};
use crate::image::debs::Folders;
use crate::image::error::{Error, IoContext};
use crate::image::hashcache::HashCache;
use crate::image::recipe::{Base, Recipe, Source};
use crate::image::reference::{self, Reference};
use crate::image::{Image, Progress, files, layout};

impl Store {
    /// The image of a recipe. `above` are the names of the recipes that it is a base of.
    pub(super) fn recipe(
        &self,
        source: Source,
        force: bool,
        above: &[&str],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        let recipe = self.load_recipe(source)?;
        let name = recipe.manifest.name.as_str();
        if above.contains(&name) {
            return Err(recipe.wrong(format!(
                "it is made from itself: {}",
                [above, &[name]].concat().join(" from ")
            )));
        }
        if !force && let Some(image) = self.current(&recipe)? {
            return Ok(image);
        }
        let base = match &recipe.base {
            Some(base) => {
                let above = [above, &[name]].concat();
                let had = self.base(base, &recipe, force, &above, progress);
                let (image, layout) = had.map_err(|source| Error::Base {
                    recipe: name.to_owned(),
                    base: base.image.clone(),
                    source: Box::new(source),
                    help: base.help.clone(),
                })?;
                Some((base, image, layout))
            }
            None => None,
        };
        let _lock = files::lock(
            &self.root.join("locks").join(format!("recipe-{name}")),
            || {
                progress(Progress::Log(format!(
                    "waiting for another nslab that builds `{name}`"
                )));
            },
        )?;
        if !force && let Some(image) = self.current(&recipe)? {
            return Ok(image);
        }
        let start = Instant::now();
        let key = key(&recipe);
        let layout = self.layout_dir(&key);
        let below = base.as_ref().map(|(_, image, _)| image.digest.clone());
        // Built, but killed before it was unpacked, or its layers were removed by hand.
        if !force
            && layout.is_dir()
            && layout::base_digest(&layout) == below
            && let Ok(record) = self.import(&key, name, "recipe", &layout, None, progress)
        {
            progress(record.done(start));
            return Ok(self.image(record));
        }
        let old = self.load(&key);
        let (work, out) = (self.root.join("build").join(name), self.new_path(&key));
        for dir in [&work, &out] {
            files::remove_tree(dir)?;
            fs::create_dir(dir).on("create folder", dir)?;
        }
        let folders = Folders {
            debs: self.root.join("debs"),
            apt: self.root.join("apt"),
        };
        let below = base.as_ref().map(|(base, image, layout)| build::Base {
            name: &base.image,
            layout,
            layers: &image.layers,
        });
        let places = Places {
            debs: &folders,
            work: &work,
            out: &out,
        };
        let built = build::build(&recipe, below, force, places, progress);
        if built.is_err() {
            files::remove_tree(&work)?;
            files::remove_tree(&out)?;
        }
        built?;
        self.put_layout(&key, &out)?;
        let record = self.import(&key, name, "recipe", &layout, None, progress)?;
        if let Some(old) = old.filter(|o| o.digest != record.digest) {
            self.let_go(&BTreeSet::from([old.digest.as_str()]));
            self.sweep()?;
        }
        progress(record.done(start));
        Ok(self.image(record))
    }

    fn load_recipe(&self, source: Source) -> Result<Recipe, Error> {
        // It writes the cache.
        let _gate = self.finding()?;
        let mut hashes = HashCache::open(&self.root.join("cache/hashes.json"));
        Recipe::load(source, &mut hashes)
    }

    /// The image of a recipe if it is there, whole, and on the base that the store has now,
    /// whatever a registry has by now. Where the store no longer has the base alone, that is fine.
    fn current(&self, recipe: &Recipe) -> Result<Option<Image>, Error> {
        let key = key(recipe);
        let Some(image) = self.recorded(&key)? else {
            return Ok(None);
        };
        let Some(base) = &recipe.base else {
            return Ok(Some(image));
        };
        let now = if let Some(source) = base_recipe(base, recipe) {
            // A recipe that is its own base was never built, so this comes to an end.
            match self.current(&self.load_recipe(source)?)? {
                Some(now) => now,
                None => return Ok(None),
            }
        } else {
            match self.recorded(&remote_key(&reference::remote(&base.image)?))? {
                Some(now) => now,
                None => return Ok(Some(image)),
            }
        };
        let of = layout::base_digest(&self.layout_dir(&key));
        Ok((of.as_ref() == Some(&now.digest)).then_some(image))
    }

    /// Provides a recipe's base, and its layout; with `again` a registry is asked for it anew.
    fn base(
        &self,
        base: &Base,
        recipe: &Recipe,
        again: bool,
        above: &[&str],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Image, PathBuf), Error> {
        // The store's own layout of it: a user's might hold more images.
        if let Some(source) = base_recipe(base, recipe) {
            let key = key(&self.load_recipe(source.clone())?);
            let image = self.recipe(source, false, above, progress)?;
            return Ok((image, self.layout_dir(&key)));
        }
        let remote = reference::remote(&base.image)?;
        let image = self.remote(&remote, again, progress)?;
        Ok((image, self.layout_dir(&remote_key(&remote))))
    }
}

fn key(recipe: &Recipe) -> String {
    format!("{}-{}", recipe.manifest.name, short(&recipe.digest))
}

/// The recipe that a base's name means, if one has it.
fn base_recipe(base: &Base, recipe: &Recipe) -> Option<Source> {
    match &base.reference {
        Reference::Name(name) => find(name, &recipe.beside()),
        _ => None,
    }
}
