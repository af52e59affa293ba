"""Prompts: templates, label words, and the encoding of examples into model inputs."""

from shoestring.prompts.check import check_task
from shoestring.prompts.encoding import EncodedPrompt, PromptEncoder
from shoestring.prompts.settings import Kind, PromptSettings
from shoestring.prompts.template import parse

__all__ = ["EncodedPrompt", "Kind", "PromptEncoder", "PromptSettings", "check_task", "parse"]
