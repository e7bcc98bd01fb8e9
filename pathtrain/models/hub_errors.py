"""What the Hugging Face hub's refusals mean, in words, with the way out."""

from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HTTPError, RepositoryNotFoundError  # type: ignore[attr-defined]

from pathtrain.errors import ModelError
from pathtrain.models.weight_files import first_line

LOGIN = "log in (`hf auth login`, or the variable HF_TOKEN)"


def explained(error: Exception, repository: str, licence: str | None, prefix: str = "") -> ModelError:
    """An error for people.

    Args:
        error: that fetching raised; what is neither the hub's nor a file's is raised again.
        licence: that must be accepted, if it is known.
        prefix: what the message begins with.
    """
    page = f"https://huggingface.co/{repository}"
    elsewhere = (
        f"Without internet: `hf download {repository} --local-dir FOLDER` elsewhere, and give that folder, "
        "or its file: `weights` FILE"
    )
    if isinstance(error, ModelError):
        return ModelError(f"{prefix}{error}")
    if isinstance(error, GatedRepoError):
        terms = f" ({licence})" if licence else ""
        said = f"{repository} asks to accept its licence first{terms}: do so at {page}, and {LOGIN}"
    elif isinstance(error, RepositoryNotFoundError):
        said = f"there is no {repository} on the hub, or it is not open to you; look at {page}, and {LOGIN}"
    elif isinstance(error, OSError | HTTPError | ValueError | EntryNotFoundError):
        said = f"{repository} cannot be fetched ({first_line(error)})"
    else:
        raise error
    return ModelError(f"{prefix}{said}. {elsewhere}")
