"""A Django project with one app, its databases in files beside it."""

from pathlib import Path

SECRET_KEY = "not secret"
USE_TZ = True
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "live.db", "TEST": {"NAME": str(Path("test.db").absolute())}}
}
INSTALLED_APPS = ["shop"]
MIGRATION_MODULES = {"shop": None}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
DEFAULT_FROM_EMAIL = "shop@x.example"
