/* The job of the start-to-end measurement: nothing. Linked statically, so that its own start hides little. */
int main(void)
{
    return 0;
}
