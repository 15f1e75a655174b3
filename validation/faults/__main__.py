"""`python -m validation.faults`."""

from validation.faults.campaign import main

if __name__ == "__main__":
    main()
