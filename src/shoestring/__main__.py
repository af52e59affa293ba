"""`python -m shoestring`, for environments whose `shoestring` is not on the path."""

from shoestring.cli.main import main

if __name__ == "__main__":
    main()
